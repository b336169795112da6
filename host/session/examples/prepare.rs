//! Where the time before an attach goes: `prepare PID POINT`.

use std::time::Instant;

use trocar_session::{Loaded, Missing, RequestedPoint, plan_points};

fn main() {
    let mut args = std::env::args().skip(1);
    let pid = args.next().and_then(|a| a.parse().ok()).expect("PID");
    let points: Vec<RequestedPoint> = args.map(|text| RequestedPoint { text, handler: None }).collect();
    for _ in 0..5 {
        let began = Instant::now();
        let mut loaded = Loaded::open(pid).unwrap_or_else(|e| panic!("{e}"));
        let opened = began.elapsed();
        let _ = loaded.analysis(0);
        let analysed = began.elapsed();
        let planned =
            plan_points(&mut loaded, &points, false, Missing::Fails).unwrap_or_else(|e| panic!("{e}"));
        println!(
            "open {opened:?} analysis {:?} plan {:?} sites {}",
            analysed - opened,
            began.elapsed() - analysed,
            planned.sites.len()
        );
    }
}
