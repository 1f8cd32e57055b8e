//! A web page in a browser on this machine is no tool on it, where no keys tell them apart.

use bytes::Bytes;
use chimera_gateway::{DialectId, Gateway, Limits, Models, Settings, Tenant, Tenants, key_digest};
use http::Request;
use http_body_util::Full;

use crate::support::{ANSWER, CHAT, Scripted, call, chat, gateway, post, provider, unary};

fn with(mut request: Request<Full<Bytes>>, headers: &[(&'static str, &str)]) -> Request<Full<Bytes>> {
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    request
}

#[tokio::test]
async fn a_page_that_rebinds_its_name_to_this_machine_is_told_so_in_the_callers_dialect() {
    let upstream = Scripted::answering(unary(200, ANSWER));
    let gateway = gateway(DialectId::OpenAi, &upstream);
    for host in ["evil.test", "evil.test:8080", "192.168.1.1:8080", "localhost.evil.test"] {
        for (path, shape) in [
            (CHAT, "/error/code"),
            ("/v1/messages", "/error/type"),
            ("/v1beta/models/gemini-x:generateContent", "/error/status"),
            ("/api/v1/generate", "/error/code"),
        ] {
            let refused = call(&gateway, with(post(path, "{}"), &[("host", host)])).await;
            assert_eq!((refused.status, refused.header("connection")), (421, "close"), "{host} {path}");
            assert!(refused.json().pointer(shape).is_some_and(|v| v.is_string()), "{}", refused.body);
        }
        let list = Request::get("/v1/models").header("host", host).body(Full::default()).unwrap();
        assert_eq!(call(&gateway, list).await.status, 421);
    }
    for host in ["localhost:8080", "127.0.0.1:8080", "[::1]:8080", "LOCALHOST"] {
        let served = call(&gateway, with(chat("gpt-x", "x", false), &[("host", host)])).await;
        assert_eq!(served.status, 200, "{host}");
    }
    assert_eq!(upstream.connects.load(std::sync::atomic::Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_page_of_another_site_cannot_have_requests_sent_here() {
    let upstream = Scripted::answering(unary(200, ANSWER));
    let gateway = gateway(DialectId::OpenAi, &upstream);
    for headers in [
        &[("sec-fetch-site", "cross-site")][..],
        &[("sec-fetch-site", "same-site")],
        &[("sec-fetch-site", "cross-site"), ("origin", "http://localhost")],
        &[("origin", "http://evil.test")],
    ] {
        let refused = call(&gateway, with(chat("gpt-x", "x", false), headers)).await;
        assert_eq!((refused.status, refused.code().as_str()), (403, "invalid_request"), "{headers:?}");
    }
    assert_eq!(upstream.count(), 0);
    for headers in [
        &[("sec-fetch-site", "same-origin"), ("origin", "http://localhost")][..],
        &[("sec-fetch-site", "none")],
    ] {
        assert_eq!(call(&gateway, with(chat("gpt-x", "x", false), headers)).await.status, 200, "{headers:?}");
    }
}

#[tokio::test]
async fn with_client_keys_any_host_and_any_site_may_ask() {
    let upstream = Scripted::answering(unary(200, ANSWER));
    let mut models = Models::default();
    models.add_provider(provider("one", DialectId::OpenAi, &upstream));
    let mut settings = Settings::new(models);
    settings.tenants = Tenants::keyed([(key_digest("k"), Tenant::new("one", Limits::default()))]);
    let gateway = Gateway::new(settings, [7; 32]).unwrap();
    let page =
        [("host", "llm.corp.test"), ("sec-fetch-site", "cross-site"), ("origin", "https://app.corp.test")];
    assert_eq!(call(&gateway, with(chat("gpt-x", "x", false), &page)).await.status, 401);
    let keyed = [&page[..], &[("x-api-key", "k")]].concat();
    assert_eq!(call(&gateway, with(chat("gpt-x", "x", false), &keyed)).await.status, 200);
}
