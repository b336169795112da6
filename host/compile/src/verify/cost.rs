//! Static cost: upper bounds of fuel and system calls of one hit, for each handler by itself.
//!
//! The bound of a function is that of its dearest way (`ways`), with the bounds of what it calls. A loop that does not
//! count to a constant, recursion, an indirect call or an operation of unknown length on such a way leaves no bound, and
//! the answer says which it was. Then the limit of fuel is all that bounds a hit.

use std::collections::BTreeSet;

use trocar_abi::import::{self, Import};
use wasmparser::TypeRef;

use super::Unbounded;
use super::charges;
use super::inventory::{Body, Inventory};
use super::ways::{self, Cost};

/// Bounds of one hit of a handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HandlerCost {
    pub fuel: Result<u64, Unbounded>,
    pub system_calls: Option<u32>,
}

/// How far the walk is with a function.
#[derive(Clone, Copy, Debug)]
enum State {
    New,
    /// Its callees are being worked on: meeting it again is recursion.
    Open,
    Done(Result<Cost, Unbounded>),
}

/// The bounds of these handlers, given by their function indices.
pub(super) fn of(inventory: &Inventory<'_>, handlers: impl Iterator<Item = u32>) -> Vec<HandlerCost> {
    let hosts: Vec<Option<&'static Import>> = inventory
        .imports
        .iter()
        .filter(|i| matches!(i.ty, TypeRef::Func(_)))
        .map(|i| import::resolve(i.module, i.name))
        .collect();
    let mut walk = Walk { inventory, hosts: &hosts, states: vec![State::New; inventory.functions.len()] };
    handlers
        .map(|handler| {
            let bound = walk.bound(handler);
            // Without a bound there may still be no system call at all.
            let none = || walk.reaches_no_system_call(handler).then_some(0);
            let system_calls = bound.map_or_else(|_| none(), |cost| Some(cost.system_calls));
            HandlerCost { fuel: bound.map(|cost| cost.fuel), system_calls }
        })
        .collect()
}

struct Walk<'a> {
    inventory: &'a Inventory<'a>,
    /// The host call behind each imported function.
    hosts: &'a [Option<&'static Import>],
    states: Vec<State>,
}

impl Walk<'_> {
    fn state(&self, function: u32) -> State {
        self.states.get(function as usize).copied().unwrap_or(State::Done(Err(Unbounded::Malformed)))
    }

    fn set(&mut self, function: u32, state: State) {
        if let Some(slot) = self.states.get_mut(function as usize) {
            *slot = state;
        }
    }

    /// The functions with code come after the imported ones.
    fn body(&self, function: u32) -> Option<&Body<'_>> {
        let index = (function as usize).checked_sub(self.inventory.imported_functions)?;
        self.inventory.bodies.get(index)
    }

    /// The bound of a function with code. Depth first with a stack of its own: chains of calls may be long.
    fn bound(&mut self, root: u32) -> Result<Cost, Unbounded> {
        let mut stack = vec![root];
        while let Some(function) = stack.last().copied() {
            match self.state(function) {
                State::Done(_) => {
                    stack.pop();
                }
                State::New => {
                    self.set(function, State::Open);
                    let callees = self.body(function).map(|b| b.calls.clone()).unwrap_or_default();
                    // One that is open is recursion, and stays without a bound when this one is walked.
                    stack.extend(callees.into_iter().filter(|c| matches!(self.state(*c), State::New)));
                }
                State::Open => {
                    let dearest = self.dearest(function);
                    self.set(function, State::Done(dearest));
                    stack.pop();
                }
            }
        }
        match self.state(root) {
            State::Done(bound) => bound,
            State::New | State::Open => Err(Unbounded::Malformed),
        }
    }

    fn dearest(&self, function: u32) -> Result<Cost, Unbounded> {
        // An imported function that is exported again: a handler without code.
        let Some(body) = self.body(function) else { return Err(Unbounded::Malformed) };
        ways::dearest(&body.code, |callee, last| match self.hosts.get(callee as usize) {
            Some(host) => {
                let host = host.ok_or(Unbounded::Malformed)?;
                let fuel = charges::host_call(host, last).ok_or(Unbounded::Length)?;
                Ok(Cost { fuel, system_calls: host.system_calls })
            }
            None => match self.state(callee) {
                State::Done(cost) => cost,
                State::New | State::Open => Err(Unbounded::Recursion),
            },
        })
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
            stack.extend(body.calls.iter());
        }
        true
    }
}
