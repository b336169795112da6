//! `bench`: runs the parts that are wanted, prints the table, and writes `bench.json` beside the build.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use trocar_perf::machine::Machine;
use trocar_perf::options::{Form, Options, Part};
use trocar_perf::output::{Line, table};
use trocar_perf::program::Binary;
use trocar_perf::{Trouble, attaching, hits, serving, share, sites};

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => {
            eprintln!("bench: {trouble}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Trouble> {
    let note = |what: &str| eprintln!("bench: {what}");
    let binary = Binary::build()?;
    let mut lines = vec![Line::Machine(Machine::now())];
    let absent = |part: &'static str, why: Trouble| Line::Absent { part, why };
    if options.wants(Part::Hits) {
        for threads in &options.threads {
            match hits::measure(options, &binary, *threads, &note) {
                Ok(rows) => lines.extend(rows.into_iter().map(Line::Hit)),
                Err(why) => lines.push(absent("hits", why)),
            }
        }
    }
    if options.wants(Part::Attach) {
        match attaching::measure(options, &binary, &note) {
            Ok(all) => lines.extend(all.into_iter().map(Line::Attach)),
            Err(why) => lines.push(absent("attach", why)),
        }
        match attaching::memory(&binary, &note) {
            Ok(all) => lines.extend(all.into_iter().map(Line::Memory)),
            Err(why) => lines.push(absent("memory", why)),
        }
    }
    if options.wants(Part::Sites) {
        lines.push(
            sites::measure(options, &binary, &note).map_or_else(|why| absent("sites", why), Line::Sites),
        );
    }
    if options.wants(Part::Redis) {
        lines.push(serving::measure(options, &note).map_or_else(|why| absent("redis", why), Line::Redis));
    }
    if options.wants(Part::Share) {
        match share::measure(options, &note) {
            Ok(all) => lines.extend(all.into_iter().map(Line::Share)),
            Err(why) => lines.push(absent("share", why)),
        }
    }
    lines.push(Line::After(Machine::now()));
    let json =
        lines.iter().map(|l| serde_json::to_string(l).map(|t| t + "\n")).collect::<Result<String, _>>();
    let json = json.map_err(|e| e.to_string())?;
    let path = json_path()?;
    std::fs::write(&path, &json).map_err(|e| format!("{}: {e}", path.display()))?;
    match options.output {
        Form::Table => println!("{}\n{}", table(&lines), path.display()),
        Form::Json => print!("{json}"),
    }
    Ok(())
}

/// `bench.json` in cargo's target folder, two above this program.
fn json_path() -> Result<PathBuf, Trouble> {
    let own = std::env::current_exe().map_err(|e| e.to_string())?;
    let target = own.ancestors().nth(2).ok_or("this program lies in no target folder")?;
    Ok(target.join("bench.json"))
}
