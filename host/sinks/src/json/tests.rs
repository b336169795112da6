//! JSON lines by behaviour: the contract's keys and their order, kinds, harmless text, failures.

use std::time::{Duration, SystemTime};

use trocar_session::reply::{Reply, Value};
use trocar_target::{Failure, FailureKind};

use super::JsonSink;
use crate::Sink;
use crate::replies;

fn noon() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::new(1_795_435_200, 5)
}

fn sink() -> JsonSink<Vec<u8>, Vec<u8>> {
    JsonSink { clock: noon, ..JsonSink::new(Vec::new(), Vec::new(), true) }
}

fn lines(replies: &[Reply]) -> Vec<String> {
    let mut sink = sink();
    for reply in replies {
        sink.write(reply).unwrap();
    }
    let text = String::from_utf8(sink.out).unwrap();
    assert!(text.ends_with('\n'));
    text.lines().map(str::to_owned).collect()
}

#[test]
fn every_reply_is_one_line_with_kind_and_ts_first_and_nothing_lost() {
    let all = replies::one_of_each();
    let written = lines(&all);
    assert_eq!(written.len(), all.len());
    for (line, reply) in written.iter().zip(&all) {
        let serde_form = serde_json::to_value(reply).unwrap();
        let kind = serde_form["kind"].as_str().unwrap();
        let start = format!("{{\"kind\":\"{kind}\",\"ts\":\"2026-11-23T12:00:00.000000005Z\",");
        assert!(line.starts_with(&start), "{line}");
        let mut parsed: serde_json::Value = serde_json::from_str(line).unwrap();
        parsed.as_object_mut().unwrap().remove("ts");
        assert_eq!(parsed, serde_form);
    }
}

#[test]
fn an_event_is_written_as_the_contract_says() {
    let reply = replies::event(&[("argc", Value::Uint(5)), ("command", Value::Text("lpush".into()))]);
    assert_eq!(
        lines(&[reply]),
        [concat!(
            r#"{"kind":"event","ts":"2026-11-23T12:00:00.000000005Z","pid":812,"session":"amber-heron","#,
            r#""probe":"redis-commands","site":0,"tid":4242,"name":"large_command","#,
            r#""fields":{"argc":5,"command":"lpush"}}"#
        )]
    );
}

#[test]
fn text_of_the_target_keeps_its_meaning_and_cannot_act_on_a_terminal() {
    let hostile = "a\x1b[2J\u{9b}\u{202e}\n\"\\\u{7f}\u{e0041}é";
    let written = lines(&[replies::event(&[(hostile, Value::Text(hostile.into()))])]);
    assert_eq!(written.len(), 1);
    assert!(!written[0].chars().any(crate::escape::is_active));
    assert!(
        written[0].contains("\\u202e") && written[0].contains("\\udb40\\udc41") && written[0].contains('é')
    );
    let parsed: serde_json::Value = serde_json::from_str(&written[0]).unwrap();
    assert_eq!(parsed["fields"][hostile], hostile);
}

#[test]
fn a_failure_is_an_error_object_with_its_code() {
    let mut sink = sink();
    sink.fail(&Failure::new(FailureKind::NoProcess, "no process 7").hint("trocar ps")).unwrap();
    sink.fail(&Failure::new(FailureKind::Bug, "x")).unwrap();
    let text = String::from_utf8(sink.out).unwrap();
    let ts = "\"ts\":\"2026-11-23T12:00:00.000000005Z\"";
    assert_eq!(
        text,
        format!(
            "{{\"kind\":\"error\",{ts},\"code\":\"no_process\",\"message\":\"no process 7\",\"hint\":\"trocar ps\"}}\n\
             {{\"kind\":\"error\",{ts},\"code\":\"bug\",\"message\":\"x\",\"hint\":null}}\n"
        )
    );
}

#[test]
fn progress_goes_to_the_other_stream_and_only_if_wanted() {
    let mut sink = sink();
    sink.progress("compiling\x1b");
    assert_eq!((sink.out.as_slice(), sink.err.as_slice()), (&b""[..], &b"compiling\\x1b\n"[..]));
    let mut quiet = JsonSink::new(Vec::new(), Vec::new(), false);
    quiet.progress("compiling");
    assert!(quiet.err.is_empty());
}
