//! Puts a WAT probe into a process for a second and prints what it says: `smoke PID PROBE.wat POINT…`.

use std::time::{Duration, Instant};

use trocar_session::{Prepared, Request, RequestedPoint};

fn main() {
    let mut args = std::env::args().skip(1);
    let pid = args.next().and_then(|a| a.parse().ok()).expect("PID");
    let wasm = wat::parse_file(args.next().expect("PROBE.wat")).expect("wat");
    let points = args.map(|text| RequestedPoint { text, handler: None }).collect();
    let seconds: f64 = std::env::var("SECONDS_TO_RUN").ok().and_then(|s| s.parse().ok()).unwrap_or(1.0);
    let request = Request {
        pid,
        wasm,
        name: "smoke".into(),
        points,
        sets: Vec::new(),
        fuel: None,
        memory: None,
        ttl: None,
        rate: None,
        max_core: None,
        sample: 1,
        native: true,
        strict: false,
        pending: false,
        functions_max: None,
    };
    let began = Instant::now();
    let prepared = Prepared::new(&request).unwrap_or_else(|e| panic!("{e} hint {:?}", e.hint));
    println!("prepared in {:?}", began.elapsed());
    let mut session = prepared.attach().unwrap_or_else(|e| panic!("{e} hint {:?}", e.hint));
    println!("{:?} stops {:?}", session.attached(), session.stops());
    let mut say = |reply| println!("{reply:?}");
    while began.elapsed() < Duration::from_secs_f64(seconds) {
        if session.poll(&mut say).expect("poll") != trocar_session::Turn::Live {
            println!("over: {}", session.why());
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    match session.detach(&mut say) {
        Ok(_) => {}
        Err(failure) => println!("detach: {failure}"),
    }
}
