//! `trocar count`: hits per second, per point, per key.
//!
//! The probe is generated from the expressions by `trocar-expr`; everything after that is `arming`.

use clap::Args;
use trocar_expr::Expr;
use trocar_session::RequestedPoint;
use trocar_target::Failure;

use super::arming::{Arming, Wanted, expression};
use crate::out::Out;
use crate::probe::ProbeFile;
use crate::trouble::Outcome;

const EXAMPLES: &str = "\
Examples:
  trocar count -p redis-server processCommand
  trocar count -p 812 libc.so.6:malloc --by '$arg0' --for 10s
  trocar count -p 812 'cart::Order::*' --if '$arg1 > 100' --hits 1000 -o json
  trocar count main read -- ls -l

Expressions:
  $arg0 … $arg11  $reg.rdi  $tid  $cpu    arguments of call or marker, registers, thread, processor
  *(u32*)($arg0 + 16)                     a typed read: u8 i8 u16 i16 u32 i32 u64 i64
  str($arg0)  str($arg0, 32)              text that ends with NUL
  + - * / % << >> & | ^ ~ ! == != < <= > >= && || ( ) 'c' \"text\" 0x2a
  A read of an unreadable address makes a condition false, and a key <unreadable>.";

/// Counts hits: how often functions are called, or instructions reached.
///
/// A point is a function's name, MODULE:NAME, a pattern with `*`, NAME+0xOFFSET, MODULE:0xADDRESS as objdump prints it,
/// usdt:PROVIDER:NAME for a USDT marker, import:MODULE:NAME for
/// calls that a module makes through its import table, or an address in the process. Every call is counted, in every thread, at a cost of some tens of nanoseconds; calls
/// that could not be counted are shown by reason. Ctrl-C prints the sums, takes everything out of the process again
/// and proves it with a receipt.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Count {
    /// Where: one or more points
    #[arg(required = true, value_name = "POINT")]
    points: Vec<String>,
    /// Count by this key: a number or a text
    #[arg(long, value_name = "EXPR", allow_hyphen_values = true)]
    by: Option<String>,
    /// Count only hits for which this is not zero
    #[arg(long = "if", value_name = "EXPR", allow_hyphen_values = true)]
    condition: Option<String>,
    #[command(flatten)]
    arming: Arming,
}

impl Count {
    /// Runs it.
    pub(crate) fn run(self, out: &mut Out) -> Outcome {
        let by = parse("--by", self.by.as_deref())?;
        let condition = parse("--if", self.condition.as_deref())?;
        let compiled = trocar_expr::compile_count(by.as_ref(), condition.as_ref()).map_err(|e| {
            // Only one of them can be named in the error; its text tells which.
            let option = if self.condition.as_deref() == Some(&e.text) { "--if" } else { "--by" };
            expression(option, &e)
        })?;
        let points =
            self.points.iter().map(|text| RequestedPoint { text: text.clone(), handler: None }).collect();
        let probe = ProbeFile { name: "count".into(), wasm: compiled.wasm };
        let wanted =
            Wanted { word: None, probe, points, sets: Vec::new(), max_core: None, functions_max: None };
        self.arming.run(&wanted, out)
    }
}

fn parse(option: &str, text: Option<&str>) -> Result<Option<Expr>, Failure> {
    text.map(|text| trocar_expr::parse(text).map_err(|e| expression(option, &e))).transpose()
}
