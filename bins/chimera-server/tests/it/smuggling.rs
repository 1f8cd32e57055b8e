//! C11: every request whose framing could be read in two ways, by the ids of the Http11Probe suite.
//!
//! Doubtful framing is refused, both framings at once above all; a chunked request with extensions or
//! trailers is answered and its connection closed, so that nothing behind it is ever read as a request.

use std::time::Duration;

use crate::support::{Client, PATIENCE, Provider, Server, answer};

/// What must happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// One 400; the connection is closed; nothing reaches the provider.
    Refused,
    /// One request reaches the provider, whole, and is answered; then the connection is closed.
    OneThenClosed,
    /// One well-formed call, which reaches the provider whole and is answered.
    One,
    /// As many well-formed requests as there are statuses, answered in order, and so many calls of the provider.
    These(&'static [u16], usize),
}
use Verdict::{One, OneThenClosed, Refused, These};

struct Case {
    id: &'static str,
    verdict: Verdict,
    bytes: Vec<u8>,
}

/// A chat body that names its case, so that the provider can tell whose requests it saw.
fn body(id: &str) -> String {
    format!(r#"{{"model":"gpt-test","messages":[{{"role":"user","content":"{id}"}}]}}"#)
}

const START: &str = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n";

fn chunked(body: &str) -> String {
    format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len())
}

/// Another request, for whoever reads on where the first one ends.
const SMUGGLED: &str = "GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    // What follows the first two lines of a chat call, or a whole request.
    // `{n}`: the length of the body; `{x}`: the same in hex; `{b}`: the body; `{c}`: it chunked;
    // `{g}`: a smuggled request.
    let mut case = |id: &'static str, verdict, rest: &str| {
        let body = body(id);
        let rest = rest
            .replace("{n}", &body.len().to_string())
            .replace("{x}", &format!("{:x}", body.len()))
            .replace("{c}", &chunked(&body))
            .replace("{b}", &body)
            .replace("{g}", SMUGGLED);
        let whole = ["GET ", "POST ", "HEAD ", "OPTIONS "].iter().any(|method| rest.starts_with(method));
        let text = if whole { rest } else { format!("{START}{rest}") };
        cases.push(Case { id, verdict, bytes: text.into_bytes() });
    };
    // Both framings.
    case("SMUG-CL-TE-BOTH", Refused, "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n{c}");
    case("SMUG-CLTE-PIPELINE", Refused, "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n{c}{g}");
    case("SMUG-TECL-PIPELINE", Refused, "Transfer-Encoding: chunked\r\nContent-Length: 900\r\n\r\n{c}{g}");
    case("SMUG-CLTE-CONN-CLOSE", Refused, "Content-Length: {n}\r\nTransfer-Encoding: chunked\r\n\r\n{c}{g}");
    case("SMUG-TECL-CONN-CLOSE", Refused, "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n{c}{g}");
    case("SMUG-CLTE-DESYNC", Refused, "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nX");
    case(
        "SMUG-CLTE-SMUGGLED-GET",
        Refused,
        "Content-Length: 60\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{g}",
    );
    case(
        "SMUG-CLTE-SMUGGLED-HEAD",
        Refused,
        "Content-Length: 60\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nHEAD /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n",
    );
    case("SMUG-TECL-SMUGGLED-GET", Refused, "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n{c}{g}");
    case("SMUG-TECL-DESYNC", Refused, "Transfer-Encoding: chunked\r\nContent-Length: 30\r\n\r\n0\r\n\r\nX");
    case(
        "SMUG-CLTE-SMUGGLED-GET-CL-PLUS",
        Refused,
        "Content-Length: +{n}\r\nTransfer-Encoding: chunked\r\n\r\n{c}{g}",
    );
    case(
        "SMUG-CLTE-SMUGGLED-GET-CL-NON-NUMERIC",
        Refused,
        "Content-Length: abc\r\nTransfer-Encoding: chunked\r\n\r\n{c}{g}",
    );
    case(
        "SMUG-CLTE-SMUGGLED-GET-TE-OBS-FOLD",
        Refused,
        "Content-Length: {n}\r\nTransfer-Encoding:\r\n chunked\r\n\r\n{c}{g}",
    );
    case(
        "SMUG-CLTE-SMUGGLED-GET-TE-TRAILING-SPACE",
        Refused,
        "Content-Length: {n}\r\nTransfer-Encoding: chunked \r\n\r\n{c}{g}",
    );
    case(
        "SMUG-CLTE-SMUGGLED-GET-TE-LEADING-COMMA",
        Refused,
        "Content-Length: {n}\r\nTransfer-Encoding: , chunked\r\n\r\n{c}{g}",
    );
    case(
        "SMUG-CLTE-SMUGGLED-GET-TE-CASE-MISMATCH",
        Refused,
        "Content-Length: {n}\r\nTransfer-Encoding: Chunked\r\n\r\n{c}{g}",
    );
    // Transfer codings.
    case("SMUG-TE-XCHUNKED", Refused, "Transfer-Encoding: xchunked\r\nContent-Length: {n}\r\n\r\n{b}");
    case("SMUG-TE-TRAILING-SPACE", Refused, "Transfer-Encoding: chunked \r\nContent-Length: {n}\r\n\r\n{b}");
    case("SMUG-TE-SP-BEFORE-COLON", Refused, "Transfer-Encoding : chunked\r\nContent-Length: {n}\r\n\r\n{b}");
    case(
        "SMUG-TE-DOUBLE-CHUNKED",
        Refused,
        "Transfer-Encoding: chunked, chunked\r\nContent-Length: {n}\r\n\r\n{b}",
    );
    case("SMUG-TE-CASE-MISMATCH", Refused, "Transfer-Encoding: Chunked\r\nContent-Length: {n}\r\n\r\n{b}");
    case("SMUG-TE-NOT-FINAL-CHUNKED", Refused, "Transfer-Encoding: chunked, gzip\r\n\r\n{c}");
    case(
        "SMUG-TE-HTTP10",
        Refused,
        "POST /v1/chat/completions HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: {n}\r\n\r\n{b}",
    );
    case("SMUG-TE-EMPTY-VALUE", Refused, "Transfer-Encoding: \r\nContent-Length: {n}\r\n\r\n{b}");
    case("SMUG-TE-LEADING-COMMA", Refused, "Transfer-Encoding: , chunked\r\nContent-Length: {n}\r\n\r\n{b}");
    case("SMUG-TE-TRAILING-COMMA", Refused, "Transfer-Encoding: chunked,\r\nContent-Length: {n}\r\n\r\n{b}");
    case(
        "SMUG-TE-DUPLICATE-HEADERS",
        Refused,
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\nContent-Length: {n}\r\n\r\n{b}",
    );
    case(
        "SMUG-TE-DUPLICATE-HEADERS-SMUGGLED-GET",
        Refused,
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\nContent-Length: {n}\r\n\r\n{c}{g}",
    );
    case("SMUG-TE-VTAB", Refused, "Transfer-Encoding: \x0bchunked\r\nContent-Length: {n}\r\n\r\n{b}");
    case("SMUG-TE-FORMFEED", Refused, "Transfer-Encoding: \x0cchunked\r\nContent-Length: {n}\r\n\r\n{b}");
    case("SMUG-TE-NULL", Refused, "Transfer-Encoding: chunked\0\r\nContent-Length: {n}\r\n\r\n{b}");
    case("SMUG-TE-IDENTITY", Refused, "Transfer-Encoding: identity\r\nContent-Length: {n}\r\n\r\n{b}");
    case("SMUG-TE-OBS-FOLD", Refused, "Transfer-Encoding:\r\n chunked\r\nContent-Length: {n}\r\n\r\n{b}");
    case(
        "SMUG-TE-TAB-BEFORE-VALUE",
        Refused,
        "Transfer-Encoding:\tchunked\r\nContent-Length: {n}\r\n\r\n{b}",
    );
    case(
        "SMUG-OPTIONS-TE-OBS-FOLD",
        Refused,
        "OPTIONS /v1/models HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding:\r\n chunked\r\nContent-Length: {n}\r\n\r\n{b}",
    );
    case("SMUG-TRANSFER_ENCODING", One, "Transfer_Encoding: chunked\r\nContent-Length: {n}\r\n\r\n{b}");
    case(
        "SMUG-CHUNKED-WITH-PARAMS",
        Refused,
        "Transfer-Encoding: chunked;ext=val\r\nContent-Length: {n}\r\n\r\n{b}",
    );
    // Lengths.
    case("SMUG-DUPLICATE-CL", Refused, "Content-Length: {n}\r\nContent-Length: 10\r\n\r\n{b}");
    case(
        "SMUG-DUPLICATE-CL-SMUGGLED-GET",
        Refused,
        "Content-Length: {n}\r\nContent-Length: 900\r\n\r\n{b}{g}",
    );
    case("SMUG-CL-LEADING-ZEROS", One, "Content-Length: 00{n}\r\n\r\n{b}");
    case("SMUG-CL-LEADING-ZEROS-OCTAL", One, "Content-Length: 0{n}\r\n\r\n{b}");
    case("SMUG-CL-NEGATIVE", Refused, "Content-Length: -1\r\n\r\n{b}");
    case("SMUG-CL-NEGATIVE-ZERO", Refused, "Content-Length: -0\r\n\r\n");
    case("SMUG-CL-DOUBLE-ZERO", These(&[400], 0), "Content-Length: 00\r\n\r\n");
    case("SMUG-CL-TRAILING-SPACE", One, "Content-Length: {n} \r\n\r\n{b}");
    case("SMUG-CL-EXTRA-LEADING-SP", One, "Content-Length:  {n}\r\n\r\n{b}");
    case("SMUG-CL-COMMA-DIFFERENT", Refused, "Content-Length: {n}, 10\r\n\r\n{b}");
    case("SMUG-CL-COMMA-SAME", Refused, "Content-Length: {n}, {n}\r\n\r\n{b}");
    case("SMUG-CL-COMMA-TRIPLE", Refused, "Content-Length: {n}, {n}, {n}\r\n\r\n{b}");
    case("SMUG-CL-OCTAL", Refused, "Content-Length: 0o5\r\n\r\n{b}");
    case("SMUG-CL-HEX-PREFIX", Refused, "Content-Length: 0x{x}\r\n\r\n{b}");
    case("SMUG-CL-INTERNAL-SPACE", Refused, "Content-Length: 1 0\r\n\r\n{b}");
    case("SMUG-CL-UNDERSCORE", Refused, "Content-Length: 1_0\r\n\r\n{b}");
    case("SMUG-EXPECT-100-CL", One, "Content-Length: {n}\r\nExpect: 100-continue\r\n\r\n{b}");
    case(
        "SMUG-EXPECT-100-CL-DESYNC",
        These(&[200, 200], 1),
        "Content-Length: {n}\r\nExpect: 100-continue\r\n\r\n{b}{g}",
    );
    // Chunks.
    case(
        "SMUG-CHUNK-BARE-SEMICOLON",
        OneThenClosed,
        "Transfer-Encoding: chunked\r\n\r\n{x};\r\n{b}\r\n0\r\n\r\n",
    );
    case(
        "SMUG-CHUNK-EXT-INVALID-TOKEN",
        OneThenClosed,
        "Transfer-Encoding: chunked\r\n\r\n{x};bad[=x\r\n{b}\r\n0\r\n\r\n",
    );
    case("SMUG-CHUNK-EXT-LF", Refused, "Transfer-Encoding: chunked\r\n\r\n{x};\n{b}\r\n0\r\n\r\n");
    case(
        "SMUG-CHUNK-EXT-CTRL",
        OneThenClosed,
        "Transfer-Encoding: chunked\r\n\r\n{x};\x01ext\r\n{b}\r\n0\r\n\r\n",
    );
    case("SMUG-CHUNK-EXT-CR", Refused, "Transfer-Encoding: chunked\r\n\r\n{x};a\rX\r\n{b}\r\n0\r\n\r\n");
    case("SMUG-CHUNK-UNDERSCORE", Refused, "Transfer-Encoding: chunked\r\n\r\n1_0\r\n{b}\r\n0\r\n\r\n");
    case("SMUG-CHUNK-HEX-PREFIX", Refused, "Transfer-Encoding: chunked\r\n\r\n0x{x}\r\n{b}\r\n0\r\n\r\n");
    case("SMUG-CHUNK-SIZE-PLUS", Refused, "Transfer-Encoding: chunked\r\n\r\n+{x}\r\n{b}\r\n0\r\n\r\n");
    case(
        "SMUG-CHUNK-SIZE-TRAILING-OWS",
        OneThenClosed,
        "Transfer-Encoding: chunked\r\n\r\n{x} \r\n{b}\r\n0\r\n\r\n",
    );
    case("SMUG-CHUNK-LEADING-SP", Refused, "Transfer-Encoding: chunked\r\n\r\n {x}\r\n{b}\r\n0\r\n\r\n");
    case(
        "SMUG-CHUNK-MISSING-TRAILING-CRLF",
        Refused,
        "Transfer-Encoding: chunked\r\n\r\n{x}\r\n{b}0\r\n\r\n",
    );
    case("SMUG-CHUNK-SPILL", Refused, "Transfer-Encoding: chunked\r\n\r\n{x}\r\n{b}!!\r\n0\r\n\r\n");
    case("SMUG-CHUNK-LF-TERM", Refused, "Transfer-Encoding: chunked\r\n\r\n{x}\r\n{b}\n0\r\n\r\n");
    case("SMUG-CHUNK-LF-TRAILER", Refused, "Transfer-Encoding: chunked\r\n\r\n{x}\r\n{b}\r\n0\r\n\n");
    case("SMUG-CHUNK-NEGATIVE", Refused, "Transfer-Encoding: chunked\r\n\r\n-1\r\n{b}\r\n0\r\n\r\n");
    case("SMUG-CHUNK-BARE-CR-TERM", Refused, "Transfer-Encoding: chunked\r\n\r\n{x}\r{b}\r\n0\r\n\r\n");
    case(
        "SMUG-CHUNK-INVALID-SIZE-DESYNC",
        Refused,
        "Transfer-Encoding: chunked\r\n\r\nZ\r\n{b}\r\n0\r\n\r\n{g}",
    );
    // Trailers.
    for (id, trailer) in [
        ("SMUG-TRAILER-CL", "Content-Length: 50"),
        ("SMUG-TRAILER-TE", "Transfer-Encoding: chunked"),
        ("SMUG-TRAILER-HOST", "Host: evil.example.com"),
        ("SMUG-TRAILER-AUTH", "Authorization: Bearer evil"),
        ("SMUG-TRAILER-CONTENT-TYPE", "Content-Type: text/evil"),
    ] {
        case(
            id,
            OneThenClosed,
            &format!("Transfer-Encoding: chunked\r\n\r\n{{x}}\r\n{{b}}\r\n0\r\n{trailer}\r\n\r\n"),
        );
    }
    // Heads.
    case("SMUG-BARE-CR-HEADER-VALUE", Refused, "Content-Length: {n}\r\nX-Test: val\rue\r\n\r\n{b}");
    case(
        "SMUG-ABSOLUTE-URI-HOST-MISMATCH",
        Refused,
        "GET http://other.example.com/v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n",
    );
    case(
        "SMUG-MULTIPLE-HOST-COMMA",
        Refused,
        "GET /v1/models HTTP/1.1\r\nHost: localhost, other.example.com\r\n\r\n",
    );
    // Bodies where none is expected.
    case(
        "SMUG-HEAD-CL-BODY",
        These(&[200], 0),
        "HEAD /v1/models HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello",
    );
    case(
        "SMUG-OPTIONS-CL-BODY",
        These(&[204], 0),
        "OPTIONS /v1/models HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello",
    );
    case(
        "SMUG-GET-CL-PREFIX-DESYNC",
        These(&[200], 0),
        "GET /v1/models HTTP/1.1\r\nHost: localhost\r\nContent-Length: 47\r\n\r\n{g}",
    );
    case(
        "SMUG-GET-CL-BODY-DESYNC",
        These(&[200, 200], 0),
        "GET /v1/models HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello{g}",
    );
    case(
        "SMUG-OPTIONS-CL-BODY-DESYNC",
        These(&[204, 200], 0),
        "OPTIONS /v1/models HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello{g}",
    );
    // What follows an empty body is a request of its own, with a method that nobody knows.
    case("SMUG-CL0-BODY-POISON", These(&[400, 405], 0), "Content-Length: 0\r\n\r\nX{g}");
    case(
        "SMUG-PIPELINE-SAFE",
        These(&[200, 200], 0),
        "GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n{g}",
    );
    cases
}

/// Sends the bytes; the statuses of all responses, and whether the server closed the connection. As many
/// responses as are wanted are waited for, and its close where that is; any more have a moment to come.
fn probe(server: &Server, bytes: &[u8], wanted: usize, closes: bool) -> (Vec<u16>, bool) {
    const MOMENT: Duration = Duration::from_millis(300);
    let mut client = Client::connect(server.data);
    client.send(bytes);
    let head = bytes.starts_with(b"HEAD");
    let mut statuses = Vec::new();
    loop {
        if statuses.len() == wanted && !closes {
            client.stream.set_read_timeout(Some(MOMENT)).unwrap();
        }
        // The response to HEAD states a length and has no body.
        let next = if head {
            client.head().map(|head| head[9..12].parse().unwrap())
        } else {
            client.try_answer().map(|answer| answer.status)
        };
        match next {
            Some(status) => statuses.push(status),
            None => break,
        }
    }
    (statuses, client.is_closed_within(if closes { PATIENCE } else { MOMENT }))
}

#[test]
fn c11_no_framing_is_read_in_two_ways() {
    let provider = Provider::start(|_| vec![answer("hi")]);
    let server = Server::start(&provider.config("[timeouts]\nrequest_body = \"200ms\""));
    let cases = cases();
    let mut ids: Vec<_> = cases.iter().map(|case| case.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((ids.len(), cases.len()), (87, 87), "every id of the suite, once");
    let mut wrong = Vec::new();
    for case in &cases {
        let calls = || -> Vec<String> {
            provider.requests().into_iter().filter(|request| request.starts_with("POST")).collect()
        };
        let before = calls().len();
        let (wanted, wanted_calls, closes) = match case.verdict {
            Refused => (&[400][..], 0, true),
            OneThenClosed => (&[200][..], 1, true),
            One => (&[200][..], 1, false),
            These(statuses, calls) => (statuses, calls, false),
        };
        let (statuses, closed) = probe(&server, &case.bytes, wanted.len(), closes);
        let seen = calls().split_off(before);
        let reached = seen.len();
        // What reached the provider is the request of this case, and all of its body.
        let whole = seen.iter().all(|call| call.ends_with(&format!("\r\n\r\n{}", body(case.id))));
        let good = statuses == wanted && reached == wanted_calls && whole && (closed || !closes);
        if !good {
            wrong.push(format!(
                "{}: {:?}, closed {closed}, reached {reached}, whole {whole}, wanted {:?}",
                case.id, statuses, case.verdict
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for request in provider.requests().into_iter().filter(|request| request.starts_with("POST")) {
        let head = request.split("\r\n\r\n").next().unwrap().to_ascii_lowercase();
        assert!(!head.contains("transfer-encoding"), "framing is made anew: {head}");
        assert_eq!(head.matches("content-length").count(), 1, "{head}");
        for alien in ["evil", "x-test", "expect", "transfer_encoding"] {
            assert!(!head.contains(alien), "{head}");
        }
    }
    let last = crate::support::chat("gpt-test", "after all that", false);
    let (statuses, _) = probe(&server, last.as_bytes(), 1, false);
    assert_eq!(statuses, [200]);
}
