//! Prints what of ELF files can be patched.
//!
//! `cargo run --release -p trocar-golden -- [--json] [--goroutines] [--show RUNG|REASON] FILE…`
//!
//! `--json` prints one object a line instead of tables; `--show` lists the sites of one rung, or the refusals of one
//! reason. `--goroutines` plans as for a host that searches the stacks of all goroutines.

use trocar_golden::Coverage;
use trocar_patch::{Refusal, SitePlan};

fn main() -> anyhow::Result<()> {
    let (mut files, mut show, mut json, mut goroutines) = (Vec::new(), None, false, false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--show" => show = arguments.next(),
            "--json" => json = true,
            "--goroutines" => goroutines = true,
            _ => files.push(argument),
        }
    }
    for name in files {
        let mut list = |what: &'static str, plan: &Result<SitePlan, Refusal>| match plan {
            Ok(plan) if show.as_deref() == Some(plan.rung.name()) => {
                println!("    {what:<11} {} at {:#x}", plan.rung.name(), plan.site);
            }
            Err(refusal) if show.as_deref() == Some(refusal.reason.name()) => {
                println!("    {what:<11} {refusal}");
            }
            Ok(_) | Err(_) => {}
        };
        let file = std::fs::read(&name)?;
        let coverage = Coverage::with(&file, &mut list, |image| image.goroutines_searched = goroutines)?;
        if json {
            println!("{}", serde_json::json!({ "file": name, "coverage": coverage }));
        } else {
            println!("{name}\n{coverage}");
        }
    }
    Ok(())
}
