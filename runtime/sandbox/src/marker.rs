//! `arg` where some sites are USDT markers: at those the arguments are where their notes say.
//!
//! An argument in memory takes a fault-safe read, with its price: what a note says need not be true.

use trocar_abi::import::SYSTEM_CALL;
use trocar_abi::operand::form;
use wasmtime::Result;

use crate::host_call::{Probe, take};

/// Argument `n` of the running hit. `go`: at other sites it is where Go puts it.
#[cold]
pub(crate) fn argument(mut c: Probe<'_>, go: bool, n: u32) -> Result<u64> {
    let state = c.data();
    let (Some(hit), Some(frame)) = (state.hit, state.frame()) else { return Ok(0) };
    let Some(operand) = state.target.operand(hit.site(), n) else {
        let value = if go { frame.go_argument(n) } else { frame.argument(n) };
        return Ok(value.unwrap_or(0));
    };
    let value = match operand.form {
        form::CONSTANT => operand.value,
        form::REGISTER => state.register(u32::from(operand.base)) >> (operand.shift & 63),
        form::MEMORY => {
            let address = operand.address(|number| state.register(number));
            take(&mut c, SYSTEM_CALL)?;
            let mut bytes = [0; 8];
            let Some(part) = bytes.get_mut(..usize::from(operand.size)) else { return Ok(0) };
            if c.data().target.read(address, part).is_err() {
                return Ok(0);
            }
            u64::from_le_bytes(bytes)
        }
        _ => return Ok(0),
    };
    Ok(operand.extended(value))
}
