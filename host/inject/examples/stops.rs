//! How long a bare stop of a process takes: `stops PID [COUNT]`. Prints least, median and greatest in microseconds.

fn main() {
    let mut args = std::env::args().skip(1);
    let pid = args.next().and_then(|a| a.parse().ok()).expect("PID");
    let count = args.next().and_then(|a| a.parse().ok()).unwrap_or(50);
    let mut times: Vec<f64> = Vec::new();
    for _ in 0..count {
        match trocar_inject::bare_stop(pid) {
            Ok(time) => times.push(time.as_secs_f64() * 1e6),
            Err(failure) => println!("{failure}"),
        }
    }
    times.sort_by(f64::total_cmp);
    println!("{:?} {:?} {:?}", times.first(), times.get(times.len() / 2), times.last());
}
