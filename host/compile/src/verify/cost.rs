//! Static cost: upper bounds of fuel and system calls of one hit, where the code has no loop.
//!
//! The bound of a function is the sum over all its operators and calls, both sides of every branch included.
//! With a loop, recursion, an indirect call or a bulk operation on the way there is no bound, and the answer
//! is `None`. Calls of the host add the fuel and the system calls of the ABI's table.

use std::collections::BTreeSet;

use trocar_abi::import::{self, Import};
use wasmparser::TypeRef;

use super::inventory::Inventory;

/// Bounds of one hit, over all handlers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cost {
    pub fuel: Option<u64>,
    pub system_calls: Option<u32>,
}

/// Bound of one function.
#[derive(Clone, Copy, Debug, Default)]
struct Bound {
    fuel: u64,
    system_calls: u32,
}

/// How far the walk is with a function.
#[derive(Clone, Copy, Debug)]
enum State {
    New,
    /// Its callees are being worked on: meeting it again is recursion.
    Open,
    Done(Option<Bound>),
}

/// The greatest bounds of these handlers, given by their function indices.
pub(super) fn of(inventory: &Inventory<'_>, handlers: impl Iterator<Item = u32>) -> Cost {
    let hosts = hosts(inventory);
    let mut walk = Walk { inventory, hosts: &hosts, states: vec![State::New; inventory.functions.len()] };
    let mut cost = Cost { fuel: Some(0), system_calls: Some(0) };
    for handler in handlers {
        let bound = walk.bound(handler);
        cost.fuel = cost.fuel.zip(bound).map(|(a, b)| a.max(b.fuel));
        // Without a bound there may still be no system call at all.
        let calls = match bound {
            Some(b) => Some(b.system_calls),
            None if walk.reaches_no_system_call(handler) => Some(0),
            None => None,
        };
        cost.system_calls = cost.system_calls.zip(calls).map(|(a, b)| a.max(b));
    }
    cost
}

/// The host call behind each imported function.
fn hosts(inventory: &Inventory<'_>) -> Vec<Option<&'static Import>> {
    inventory
        .imports
        .iter()
        .filter(|i| matches!(i.ty, TypeRef::Func(_)))
        .map(|i| import::find(i.name))
        .collect()
}

struct Walk<'a> {
    inventory: &'a Inventory<'a>,
    hosts: &'a [Option<&'static Import>],
    states: Vec<State>,
}

impl Walk<'_> {
    fn state(&self, function: u32) -> State {
        self.states.get(function as usize).copied().unwrap_or(State::Done(None))
    }

    fn set(&mut self, function: u32, state: State) {
        if let Some(slot) = self.states.get_mut(function as usize) {
            *slot = state;
        }
    }

    /// The functions with code come after the imported ones.
    fn body(&self, function: u32) -> Option<&super::inventory::Body> {
        let index = (function as usize).checked_sub(self.inventory.imported_functions)?;
        self.inventory.bodies.get(index)
    }

    /// The bound of a function. Depth first with a stack of its own: chains of calls may be long.
    fn bound(&mut self, root: u32) -> Option<Bound> {
        let mut stack = vec![root];
        while let Some(function) = stack.last().copied() {
            match self.state(function) {
                State::Done(_) => {
                    stack.pop();
                }
                State::New => {
                    self.set(function, State::Open);
                    if let Some(host) = self.host(function) {
                        self.set(function, State::Done(host));
                        continue;
                    }
                    let callees: Vec<u32> =
                        self.body(function).map(|b| b.calls.keys().copied().collect()).unwrap_or_default();
                    // A callee that is open is recursion, and stays without a bound when this one is summed.
                    stack.extend(callees.into_iter().filter(|c| matches!(self.state(*c), State::New)));
                }
                State::Open => {
                    let sum = self.sum(function);
                    self.set(function, State::Done(sum));
                    stack.pop();
                }
            }
        }
        match self.state(root) {
            State::Done(bound) => bound,
            State::New | State::Open => None,
        }
    }

    /// The bound of an imported function, which does not count as entered; `None` for one with code.
    fn host(&self, function: u32) -> Option<Option<Bound>> {
        let host = self.hosts.get(function as usize)?;
        Some(host.map(|h| Bound { fuel: h.fuel, system_calls: h.system_calls }))
    }

    fn sum(&self, function: u32) -> Option<Bound> {
        let body = self.body(function)?;
        if body.loops || body.bulk || body.indirect {
            return None;
        }
        let mut total = Bound { fuel: body.fuel, system_calls: 0 };
        for (callee, times) in &body.calls {
            let State::Done(Some(bound)) = self.state(*callee) else { return None };
            total.fuel = total.fuel.saturating_add(bound.fuel.saturating_mul(u64::from(*times)));
            total.system_calls = total.system_calls.saturating_add(bound.system_calls.saturating_mul(*times));
        }
        Some(total)
    }

    /// Whether nothing that can be reached makes a system call. An indirect call may reach every import.
    fn reaches_no_system_call(&self, root: u32) -> bool {
        let calls = |host: &Option<&'static Import>| host.is_none_or(|h| h.system_calls > 0);
        let mut seen = BTreeSet::new();
        let mut stack = vec![root];
        while let Some(function) = stack.pop() {
            if !seen.insert(function) {
                continue;
            }
            if let Some(host) = self.hosts.get(function as usize) {
                if calls(host) {
                    return false;
                }
                continue;
            }
            let Some(body) = self.body(function) else { return false };
            if body.indirect && self.hosts.iter().any(calls) {
                return false;
            }
            stack.extend(body.calls.keys());
        }
        true
    }
}
