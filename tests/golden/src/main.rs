//! Prints what of ELF files can be patched.
//!
//! `cargo run --release -p trocar-golden -- [--json] [--show REASON] FILE…`
//!
//! `--json` prints one object a line instead of tables; `--show` lists the refusals of one reason.

use trocar_golden::Coverage;

fn main() -> anyhow::Result<()> {
    let (mut files, mut show, mut json) = (Vec::new(), None, false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--show" => show = arguments.next(),
            "--json" => json = true,
            _ => files.push(argument),
        }
    }
    for name in files {
        let mut list = |what: &'static str, refusal: &trocar_patch::Refusal| {
            if show.as_deref() == Some(refusal.reason.name()) {
                println!("    {what:<11} {refusal}");
            }
        };
        let coverage = Coverage::of(&std::fs::read(&name)?, &mut list)?;
        if json {
            println!("{}", serde_json::json!({ "file": name, "coverage": coverage }));
        } else {
            println!("{name}\n{coverage}");
        }
    }
    Ok(())
}
