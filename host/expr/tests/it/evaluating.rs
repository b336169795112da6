//! Numbers: the value of an expression, seen as the key that `count --by` makes of it.

use trocar_expr::{compile_count, parse};

use crate::machine::Hit;

/// The value, or the entry of the counter of failures.
fn value(text: &str, hit: &Hit) -> Result<i64, i32> {
    let mut hit = hit.clone();
    let probe = compile_count(Some(&parse(text).unwrap_or_else(|e| panic!("{e}"))), None).unwrap();
    assert_eq!(hit.run(&probe), 1);
    match hit.keys.into_iter().next() {
        Some((key, 1)) => Ok(i64::from_le_bytes(key.try_into().unwrap())),
        Some(_) => panic!("counted more than once"),
        None => Err(hit.counters.into_keys().next().unwrap().1),
    }
}

fn constant(text: &str) -> i64 {
    value(text, &Hit::default()).unwrap()
}

#[test]
fn literals_have_their_values() {
    for (text, want) in [
        ("42", 42),
        ("0x2A", 42),
        ("'c'", 99),
        ("'\\n'", 10),
        ("'\\xff'", 255),
        ("'\\''", 39),
        ("18446744073709551615", -1),
        ("-9223372036854775808", i64::MIN),
    ] {
        assert_eq!(constant(text), want, "{text}");
    }
}

#[test]
fn operators_bind_as_documented() {
    for (text, want) in [
        ("2 + 3 * 4", 14),
        ("(2 + 3) * 4", 20),
        ("10 - 3 - 2", 5),
        ("1 << 2 + 1", 8),
        ("6 & 3 == 2", 1),
        ("1 | 2 ^ 3 & 5", 1 | (2 ^ (3 & 5))),
        ("1 == 1 && 0 == 1 || 1", 1),
        ("-2 * -3", 6),
        ("!0 + !5", 1),
        ("~0 == -1", 1),
        ("- - 3", 3),
        ("7 / 2 * 2", 6),
        ("-7 / 2", -3),
        ("-7 % 2", -1),
        ("-8 >> 1", -4),
        ("u(-8) >> 60", 15),
        ("1 << 65", 2),
        ("-1 < 1", 1),
        ("u(-1) < 1", 0),
        ("u(-1) / 2", i64::MAX),
        ("u(-1) % 10", 5),
        ("3 && 4", 1),
        ("0 || 9", 1),
        ("0 || 0", 0),
    ] {
        assert_eq!(constant(text), want, "{text}");
    }
}

#[test]
fn arithmetic_is_that_of_64_bits_on_many_values() {
    let values = [0, 1, -1, 2, 7, -7, 63, 64, 255, i64::from(i32::MIN), i64::MAX, i64::MIN, i64::MIN + 1];
    let by = |b: i64| u32::try_from(b & 63).unwrap();
    type Model = fn(i64, i64) -> Option<i64>;
    let ops: [(&str, Model); 12] = [
        ("$arg0 + $arg1", |a, b| Some(a.wrapping_add(b))),
        ("$arg0 - $arg1", |a, b| Some(a.wrapping_sub(b))),
        ("$arg0 * $arg1", |a, b| Some(a.wrapping_mul(b))),
        ("$arg0 / $arg1", |a, b| (b != 0).then(|| a.wrapping_div(b))),
        ("$arg0 % $arg1", |a, b| (b != 0).then(|| a.wrapping_rem(b))),
        ("u($arg0) / $arg1", |a, b| (b != 0).then(|| (a.cast_unsigned() / b.cast_unsigned()).cast_signed())),
        ("$arg0 % u($arg1)", |a, b| (b != 0).then(|| (a.cast_unsigned() % b.cast_unsigned()).cast_signed())),
        ("$arg0 < $arg1", |a, b| Some(i64::from(a < b))),
        ("u($arg0) >= $arg1", |a, b| Some(i64::from(a.cast_unsigned() >= b.cast_unsigned()))),
        ("$arg0 != $arg1", |a, b| Some(i64::from(a != b))),
        ("$arg0 ^ $arg1 & -$arg0", |a, b| Some(a ^ (b & a.wrapping_neg()))),
        ("~$arg0 | $arg1", |a, b| Some(!a | b)),
    ];
    for (text, want) in ops {
        for a in values {
            for b in values {
                let hit = Hit::with_args(&[a, b]);
                assert_eq!(value(text, &hit).ok(), want(a, b), "{text} for {a}, {b}");
            }
        }
    }
    for a in values {
        for b in values {
            let hit = Hit::with_args(&[a, b]);
            assert_eq!(value("$arg0 << $arg1", &hit), Ok(a.wrapping_shl(by(b))));
            assert_eq!(value("$arg0 >> $arg1", &hit), Ok(a.wrapping_shr(by(b))));
        }
    }
    for a in values {
        assert_eq!(value("$arg0 / -1", &Hit::with_args(&[a])), Ok(a.wrapping_div(-1)));
    }
}

#[test]
fn variables_come_from_the_hit() {
    let mut hit = Hit::with_args(&[0, 1, 2, 3, 4, 5, 6, 7, 80]);
    hit.ret = -5;
    hit.regs = [(5, 55), (7, 77), (16, 1600)].into();
    for (text, want) in [
        ("$arg8", 80),
        ("$ret", -5),
        ("$reg.rdi", 55),
        ("$reg.rsp", 77),
        ("$reg.rip", 1600),
        ("$tid", 1234),
        ("$cpu", 3),
    ] {
        assert_eq!(value(text, &hit), Ok(want), "{text}");
    }
}

#[test]
fn typed_reads_extend_by_their_sign() {
    let hit =
        Hit::with_args(&[0x1000]).with_memory(0x1000, &[0xff, 0xfe, 0xfd, 0xfc, 0xfb, 0xfa, 0xf9, 0xf8, 1]);
    for (text, want) in [
        ("*(u8*)$arg0", 0xff),
        ("*(i8*)$arg0", -1),
        ("*(u16*)$arg0", 0xfeff),
        ("*(i16*)$arg0", -257),
        ("*(u32*)$arg0", 0xfcfd_feff),
        ("*(i32*)$arg0", -0x0302_0101),
        ("*(i64*)$arg0", i64::from_le_bytes([0xff, 0xfe, 0xfd, 0xfc, 0xfb, 0xfa, 0xf9, 0xf8])),
        ("*(u64*)($arg0)", i64::from_le_bytes([0xff, 0xfe, 0xfd, 0xfc, 0xfb, 0xfa, 0xf9, 0xf8])),
        ("*(u8*)($arg0 + 8)", 1),
        ("*(u8*)$arg0 + 8", 0x107),
        ("*(u8*)($arg0 + *(u8*)($arg0 + 8))", 0xfe),
    ] {
        assert_eq!(value(text, &hit), Ok(want), "{text}");
    }
}

#[test]
fn failures_are_told_apart() {
    let hit = Hit::with_args(&[0x1000, 0]).with_memory(0x1000, &[1, 2]);
    assert_eq!(value("*(u32*)$arg0", &hit), Err(0), "only two of four bytes are readable");
    assert_eq!(value("*(u8*)$arg1 + 1", &hit), Err(0));
    assert_eq!(value("5 / $arg1", &hit), Err(1));
    assert_eq!(value("5 % ($arg1 * 3)", &hit), Err(1));
    assert_eq!(value("5 / (*(u8*)$arg1)", &hit), Err(0), "what fails first decides");
}

#[test]
fn what_is_not_needed_is_not_computed() {
    let mut hit = Hit::with_args(&[0]);
    let probe = compile_count(Some(&parse("$arg0 && *(u32*)$arg0 == 7").unwrap()), None).unwrap();
    hit.run(&probe);
    assert_eq!((hit.reads, hit.keys.len()), (0, 1));
    assert_eq!(value("1 || 1 / $arg0", &Hit::with_args(&[0])), Ok(1));
    assert_eq!(value("0 || 1 / $arg0", &Hit::with_args(&[0])), Err(1));
    assert_eq!(value("0 && 1 / $arg0", &Hit::with_args(&[0])), Ok(0));
}

#[test]
fn texts_compare_by_length_and_bytes() {
    let long = "a fairly long text of 31 bytes.";
    let hit = Hit::with_args(&[0x10, 0x100, 0x200])
        .with_memory(0x10, b"get\0zzz")
        .with_memory(0x100, format!("{long}\0").as_bytes())
        .with_memory(0x200, b"get\0");
    for (text, want) in [
        ("str($arg0) == \"get\"", 1),
        ("\"get\" == str($arg0)", 1),
        ("str($arg0) == \"ge\"", 0),
        ("str($arg0) == \"gets\"", 0),
        ("str($arg0) != \"set\"", 1),
        ("str($arg0) == str($arg2)", 1),
        ("str($arg0) == str($arg1)", 0),
        ("str($arg0, 2) == \"ge\"", 1),
        ("str($arg1) == \"a fairly long text of 31 bytes.\"", 1),
        ("str($arg1) == \"a fairly long text of 31 bytes!\"", 0),
        ("buf($arg0, 5) == \"get\\x00z\" || 1", 1),
        ("buf($arg0, 3) == str($arg2)", 1),
        ("buf($arg0, 3) != buf($arg2, 3)", 0),
        ("buf($arg0, $arg3) == \"\"", 1),
    ] {
        // Text constants hold no NUL, so that one is an error instead.
        let Ok(_) = parse(text) else { continue };
        assert_eq!(value(text, &hit), Ok(want), "{text}");
    }
    assert_eq!(value("str(1) == \"\"", &hit), Err(0));
}
