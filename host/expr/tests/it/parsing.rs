//! Parsing: what is an expression, and what an error says.

use trocar_expr::{Type, compile_count, compile_log, parse, parse_template};

fn message(text: &str) -> String {
    parse(text).map(|e| e.text().to_owned()).expect_err(text).message
}

#[test]
fn types_are_known() {
    let int = |unsigned| Type::Int { unsigned };
    for (text, ty) in [
        ("$arg0 + 1", int(false)),
        ("u($arg0) + 1", int(true)),
        ("u($arg0) < 1", int(false)),
        ("*(u64*)$arg0", int(true)),
        ("*(u32*)$arg0", int(false)),
        ("0xffffffffffffffff", int(true)),
        ("1 >> u($arg0)", int(false)),
        ("str($arg0)", Type::Str),
        ("buf($arg0, $arg1)", Type::Buf),
        ("str($arg0) == \"x\"", int(false)),
        (" ( $reg.r15 ) ", int(false)),
    ] {
        assert_eq!(parse(text).expect(text).ty(), ty, "{text}");
    }
    assert_eq!(parse("  $arg0 +1 ").unwrap().text(), "$arg0 +1");
}

#[test]
fn what_can_fail_is_known() {
    for (text, fails) in [
        ("$arg0 / 3", false),
        ("$arg0 / $arg1", true),
        ("$arg0 % -1", false),
        ("*(u8*)1", true),
        ("!str(1)==\"\" ", true),
    ] {
        let Ok(expr) = parse(text) else { continue };
        assert_eq!(expr.can_fail(), fails, "{text}");
    }
    assert!(parse("str(1) == \"\"").unwrap().can_fail());
}

#[test]
fn errors_say_what_would_be_right() {
    for (text, part) in [
        ("", "an expression is missing"),
        ("   ", "an expression is missing"),
        ("$arg0 = 1", "write `==`"),
        ("u->id > 3", "debug information"),
        ("$arg0.x", "there are $arg0"),
        ("order", "debug information"),
        ("1 < 2 < 3", "do not chain"),
        ("$arg12", "$arg0 to $arg11"),
        ("$reg.eax", "registers are rax rdx"),
        ("$foo", "$arg0 to $arg11, $ret"),
        ("*$arg0", "*(u32*)(address)"),
        ("*(char*)$arg0", "u8 i8 u16"),
        ("*(u32)$arg0", "`*` was expected"),
        ("1 / 0", "division by zero"),
        ("1 % 0", "division by zero"),
        ("str($arg0) + 1", "text where a number is needed"),
        ("-str($arg0)", "text where a number is needed"),
        ("str($arg0) < \"a\"", "text can only be compared"),
        ("str(str(1))", "an address is a number"),
        ("str(1, 0)", "a length is 1 to 256"),
        ("str(1, 257)", "a length is 1 to 256"),
        ("buf(1)", "buf needs a length"),
        ("len(1)", "there are the functions"),
        ("u(1, 2)", "u takes one number"),
        ("\"a\" == \"a\"", "constant"),
        ("str(1, 2) == \"abc\"", "give it a length"),
        ("(1", "`)` was expected"),
        ("1)", "an operator or the end"),
        ("1 2", "an operator or the end"),
        ("1 +", "a value was expected"),
        ("12ab", "not a number"),
        ("0x", "not a number"),
        ("18446744073709551616", "64 bits"),
        ("'ab'", "exactly one byte"),
        ("'", "closing '"),
        ("\"abc", "closing \""),
        ("\"\\q\"", "unknown escape"),
        ("\"\\x1\"", "two hexadecimal digits"),
        ("\"a\\0b\" == str(1)", "holds none"),
        ("1 # 2", "no part of the expression language"),
        ("$arg0 ? 1 : 2", "no part of the expression language"),
    ] {
        let message = message(text);
        assert!(message.contains(part), "{text}\n  gave: {message}\n  want: {part}");
    }
}

#[test]
fn carets_stand_under_the_place() {
    let shown = |text: &str| parse(text).unwrap_err().caret();
    assert_eq!(shown("$arg0 + foo"), "  $arg0 + foo\n          ^^^");
    assert_eq!(shown("\"ä\" == str(1) + é"), "  \"ä\" == str(1) + é\n                  ^");
    assert_eq!(shown("1 +"), "  1 +\n     ^");
    let e = parse_template("id={$arg0 + foo}").unwrap_err();
    assert_eq!(e.caret(), "  id={$arg0 + foo}\n              ^^^");
    assert!(e.to_string().starts_with("variables and their fields"), "{e}");
}

#[test]
fn a_condition_is_a_number_and_a_key_is_no_buffer() {
    let text = parse("str($arg0)").unwrap();
    assert!(compile_count(None, Some(&text)).unwrap_err().message.contains("a condition is a number"));
    let buffer = parse("buf($arg0, 4)").unwrap();
    assert!(compile_count(Some(&buffer), None).unwrap_err().message.contains("no key"));
    let constant = parse("\"x\"").unwrap();
    assert!(compile_count(Some(&constant), None).unwrap_err().message.contains("same at every hit"));
}

#[test]
fn size_and_depth_are_bounded() {
    assert!(message(&"(".repeat(1000)).contains("nested more than"));
    assert!(message(&"-".repeat(1000)).contains("nested more than"));
    assert!(message(&format!("1{}", "+1".repeat(600))).contains("more than 512 parts"));
    assert!(message(&"1".repeat(5000)).contains("at most 4096 bytes"));
    assert!(message(&vec!["str(1)==\"\""; 40].join("&&")).contains("more than 32 texts"));
    let deep = format!("{}1{}", "(".repeat(40), ")".repeat(40));
    assert!(parse(&deep).is_ok());
    // The longest chain there may be still compiles and runs without deep recursion trouble.
    let chain = parse(&format!("1{}", "+1".repeat(250))).unwrap();
    assert_eq!(crate::machine::Hit::default().run(&compile_count(None, Some(&chain)).unwrap()), 1);
}

#[test]
fn templates_keep_braces_quotes_and_formats_apart() {
    for good in ["", "plain", "{{}}", "{$arg0:x}", "{str(1) == \"}\"}", "{'}'}", "{buf(1,2)}"] {
        parse_template(good).expect(good);
    }
    for (bad, part) in [
        ("}", "without its partner"),
        ("a{$arg0", "closing brace"),
        ("{}", "an expression is missing"),
        ("{str(1):x}", ":x is for numbers"),
        ("{$arg0:d}", "no part of the expression"),
    ] {
        let e = parse_template(bad).expect_err(bad);
        assert!(e.message.contains(part), "{bad}: {}", e.message);
    }
    assert!(parse_template(&"{1}".repeat(17)).unwrap_err().message.contains("at most 16"));
    let long = parse_template(&"{buf($arg0, 256)}".repeat(9)).unwrap();
    assert!(compile_log(&long, None).unwrap_err().message.contains("4608 bytes"));
}

#[test]
fn hostile_text_never_panics() {
    let seeds = [
        "*(u32*)($arg0+16) == 'a' && str($arg1,3) == \"g\\x41t\" || u($ret)/2 < 0x7f",
        "x={buf($arg0,4)} {{ {str($arg1):x} \"é\" }}",
    ];
    let mut parsed = 0;
    for seed in seeds {
        for i in 0..seed.len() {
            for insert in ["", "(", "\"", "'", "\\", "{", "}", "é", "\0", "$", "9999999999", "*"] {
                for remove in 0..3 {
                    let (Some(a), Some(b)) = (seed.get(..i), seed.get(i + remove..)) else { continue };
                    let text = format!("{a}{insert}{b}");
                    match parse(&text) {
                        Ok(expr) => {
                            parsed += 1;
                            if let Ok(compiled) = compile_count(None, Some(&expr)) {
                                wasmparser::validate(&compiled.wasm).expect(&text);
                            }
                        }
                        Err(e) => assert!(e.caret().lines().count() == 2, "{text:?}"),
                    }
                    if let Ok(template) = parse_template(&text) {
                        parsed += 1;
                        wasmparser::validate(&compile_log(&template, None).unwrap().wasm).expect(&text);
                    }
                }
            }
        }
    }
    assert!(parsed > 100);
}
