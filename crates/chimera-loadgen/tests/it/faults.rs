//! Errors by class: what went wrong is told, once each.

use std::{io::Write, net::TcpListener};

use crate::support::{CHAT, answer, ran, scenario, scripted};

const TEN: &str = "[load]\ncount = 10\nconnections = 1\n[closed]";

#[test]
fn statuses_are_told_apart_with_what_they_said() {
    let address = scripted(|number, stream| match number {
        0..4 => answer(stream, 429, "retry-after: 1\r\n", "{\"error\":\"slow down\"}"),
        4..6 => answer(stream, 503, "", "{}"),
        _ => answer(stream, 200, "", CHAT),
    });
    let report = ran(&scenario(address, "", TEN, ""));
    assert_eq!(report.overall.ok, 4);
    assert_eq!(report.overall.errors["status 429"].count, 4);
    assert!(report.overall.errors["status 429"].first.contains("slow down"));
    assert_eq!(report.overall.errors["status 503"].count, 2);
    assert!((report.overall.error_rate - 0.6).abs() < 1e-9);
}

#[test]
fn an_answer_that_is_none_is_an_error_under_any_status() {
    let address = scripted(|_, stream| answer(stream, 200, "", "{\"error\":{\"message\":\"no\"}}"));
    let report = ran(&scenario(address, "", TEN, ""));
    assert_eq!((report.overall.ok, report.overall.errors["invalid answer"].count), (0, 10));
}

#[test]
fn a_refused_connection_is_no_broken_one() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let report = ran(&scenario(address, "", TEN, ""));
    assert_eq!(report.overall.errors["connect"].count, 10);
}

#[test]
fn streams_that_break_or_err_are_told_apart() {
    let event = r#"data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}"#;
    let address = scripted(move |number, stream| {
        let rest = match number {
            0..3 => String::new(),
            3..5 => "data: {\"error\":{\"message\":\"gone\"}}\n\n".to_owned(),
            _ => "data: [DONE]\n\n".to_owned(),
        };
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
        let _ = stream.write_all(format!("{head}{event}\n\n{rest}").as_bytes());
        false
    });
    let report = ran(&scenario(address, "", TEN, "stream = true"));
    let errors = &report.overall.errors;
    assert_eq!((errors["stream cut short"].count, errors["error in stream"].count), (3, 2), "{errors:?}");
    assert!(errors["error in stream"].first.contains("gone"));
    assert_eq!(report.overall.ok, 5);
}

#[test]
fn a_kept_connection_that_was_closed_is_no_error() {
    // The server closes after every answer and does not say so.
    let address = scripted(|_, stream| {
        answer(stream, 200, "", CHAT);
        false
    });
    let report = ran(&scenario(address, "", TEN, ""));
    assert_eq!((report.overall.ok, report.overall.failed), (10, 0), "{:?}", report.overall.errors);
    assert!(report.generator.connects >= 10);
}

#[test]
fn cache_results_are_counted_by_the_header() {
    let address = scripted(|number, stream| {
        let result = ["miss; reason=cold", "l1", "l1", "l2", "coalesced"][number as usize % 5];
        answer(stream, 200, &format!("x-chimera-cache: {result}\r\n"), CHAT)
    });
    let report = ran(&scenario(address, "thresholds = [\"hit_rate > 79%\"]", TEN, ""));
    assert_eq!(report.overall.hit_rate, Some(0.8));
    assert_eq!(report.overall.cache["l1"], 4);
    assert!(report.held());
}
