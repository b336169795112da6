//! The `log` probe: what lines look like.

use trocar_expr::{compile_log, parse, parse_template};

use crate::machine::Hit;

fn lines(template: &str, condition: Option<&str>, hit: &Hit) -> Vec<String> {
    let condition = condition.map(|c| parse(c).unwrap());
    let template = parse_template(template).unwrap_or_else(|e| panic!("{e}"));
    let probe = compile_log(&template, condition.as_ref()).unwrap();
    let mut hit = hit.clone();
    let answer = hit.run(&probe);
    assert_eq!(usize::try_from(answer).unwrap(), hit.lines.len());
    hit.lines
        .into_iter()
        .map(|(level, line)| {
            assert_eq!(level, 2);
            line
        })
        .collect()
}

fn line(template: &str, hit: &Hit) -> String {
    lines(template, None, hit).remove(0)
}

#[test]
fn numbers_are_decimal_or_hexadecimal() {
    for (value, decimal, hex) in [
        (0, "0", "0x0"),
        (7, "7", "0x7"),
        (-1, "-1", "0xffffffffffffffff"),
        (i64::MIN, "-9223372036854775808", "0x8000000000000000"),
        (i64::MAX, "9223372036854775807", "0x7fffffffffffffff"),
        (0xdead_beef, "3735928559", "0xdeadbeef"),
    ] {
        let hit = Hit::with_args(&[value]);
        assert_eq!(line("{$arg0}|{$arg0:x}", &hit), format!("{decimal}|{hex}"));
    }
    assert_eq!(line("{u($arg0)}", &Hit::with_args(&[-1])), "18446744073709551615");
    assert_eq!(line("{$arg0 + 1 :x}", &Hit::with_args(&[9])), "0xa");
}

#[test]
fn text_is_as_it_is_and_buffers_are_hexadecimal() {
    let hit = Hit::with_args(&[0x10, 3]).with_memory(0x10, b"get\0\xff");
    assert_eq!(line("[{str($arg0)}] {buf($arg0, 5)} {buf($arg0, $arg1)}", &hit), "[get] 67657400ff 676574");
    assert_eq!(line("{\"é\"}{str($arg0,1)}", &hit), "ég");
}

#[test]
fn plain_text_and_braces_stay() {
    assert_eq!(line("", &Hit::default()), "");
    assert_eq!(line("a {{b}} é", &Hit::default()), "a {b} é");
    assert_eq!(line("{'}'}{str($arg0)==\"}\"}", &Hit::with_args(&[1]).with_memory(1, b"}\0")), "1251");
}

#[test]
fn a_value_that_fails_is_shown_in_its_place() {
    let hit = Hit::with_args(&[0]);
    assert_eq!(
        line("a={*(u32*)$arg0} b={1/$arg0} c={str($arg0)} d={buf($arg0,4)} e={$tid}", &hit),
        "a=<unreadable> b=<undefined> c=<unreadable> d=<unreadable> e=1234"
    );
}

#[test]
fn a_condition_decides_whether_there_is_a_line() {
    assert_eq!(lines("x", Some("$arg0 == 1"), &Hit::with_args(&[1])), ["x"]);
    assert!(lines("x", Some("$arg0 == 1"), &Hit::with_args(&[2])).is_empty());
    assert!(lines("x", Some("*(u8*)$arg0"), &Hit::with_args(&[0])).is_empty());
}

#[test]
fn the_longest_line_fits_exactly() {
    let text = vec![b'y'; 300];
    let hit = Hit::with_args(&[0x100]).with_memory(0x100, &text);
    let template = "{str($arg0, 256)}".repeat(15) + &"z".repeat(256);
    let line = line(&template, &hit);
    assert_eq!(line.len(), 4096);
    assert!(line.ends_with("yz".to_owned().as_str()) || line.ends_with("zz"));
    assert!(line.starts_with("yyyy"));
}
