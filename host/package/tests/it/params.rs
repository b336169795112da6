//! How texts of the command line become the values of parameters.

use trocar_package::{Manifest, ParamError, ParamValue};

fn manifest() -> Manifest {
    Manifest::from_toml(
        "abi = 1\nname = 'p'\nparams = [{name='argc_offset',type='int',default=88},{name='prefix',type='str',default=''},{name='must',type='int'}]",
    )
    .unwrap()
}

fn first(text: &str) -> Result<ParamValue, ParamError> {
    manifest().resolve_params(&[("must", "0"), ("argc_offset", text)]).map(|v| v[0].clone())
}

#[test]
fn values_come_in_the_order_of_the_manifest() {
    let values = manifest().resolve_params(&[("must", "-0x10"), ("prefix", "a=b"), ("must", "7")]).unwrap();
    assert_eq!(values, [ParamValue::Int(88), ParamValue::Str("a=b".into()), ParamValue::Int(7)]);
}

#[test]
fn integers_are_decimal_or_hexadecimal_over_the_whole_64_bits() {
    assert_eq!(first("0x58"), Ok(ParamValue::Int(88)));
    assert_eq!(first("-9223372036854775808"), Ok(ParamValue::Int(i64::MIN)));
    assert_eq!(first("0xffffffffffffffff"), Ok(ParamValue::Int(-1)));
    for bad in [
        "",
        "-",
        "0x",
        "1_000",
        "+1",
        "--1",
        "0x-1",
        "18446744073709551616",
        "-9223372036854775809",
        "1.0",
        "é",
    ] {
        assert!(matches!(first(bad), Err(ParamError::Invalid { .. })), "{bad}");
    }
}

#[test]
fn an_unknown_name_lists_what_exists() {
    let e = manifest().resolve_params(&[("argc_ofset", "1")]).unwrap_err().to_string();
    assert_eq!(
        e,
        "the probe has no parameter `argc_ofset`; it has argc_offset, prefix, must (did you mean `argc_offset`?)"
    );
    let none = Manifest::default_for("p").resolve_params(&[("a", "1")]).unwrap_err().to_string();
    assert!(none.contains("none at all"), "{none}");
}

#[test]
fn a_parameter_without_default_must_be_given() {
    let e = manifest().resolve_params(&[]).unwrap_err();
    assert_eq!(e.to_string(), "parameter `must` has no default: give it with --set must=VALUE");
}

#[test]
fn texts_are_bounded() {
    let long = "x".repeat(4097);
    assert!(manifest().resolve_params(&[("must", "1"), ("prefix", &long)]).is_err());
    assert!(manifest().resolve_params(&[("must", "1"), ("prefix", "a\0b")]).is_err());
}
