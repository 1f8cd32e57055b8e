//! Asking a [`Sim`], in-process and over a pipe.

use bytes::Bytes;
use chimera_sim::{Sim, SimBody};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};

pub(crate) fn post(path: &str, body: &Value) -> Request<Full<Bytes>> {
    Request::post(path).body(Full::new(body.to_string().into())).unwrap()
}

pub(crate) fn chat(prompt: &str, stream: bool) -> Request<Full<Bytes>> {
    let messages = json!([{"role": "user", "content": prompt}]);
    post(
        "/v1/chat/completions",
        &json!({"model": "m", "messages": messages, "stream": stream,
            "stream_options": {"include_usage": true}}),
    )
}

pub(crate) async fn text(response: Response<SimBody>) -> String {
    let body = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

pub(crate) async fn ask(sim: &Sim, path: &str, body: &Value) -> (u16, Value) {
    let response = sim.respond(post(path, body)).await;
    let status = response.status().as_u16();
    (status, serde_json::from_str(&text(response).await).unwrap())
}

/// The JSON of every `data:` line.
pub(crate) fn events(stream: &str) -> Vec<Value> {
    let data = stream.lines().filter_map(|line| line.strip_prefix("data: "));
    data.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).unwrap()).collect()
}

pub(crate) type Client = hyper::client::conn::http1::SendRequest<Full<Bytes>>;

/// A client connected to `sim` by an in-memory pipe.
pub(crate) async fn connect(sim: &Sim) -> Client {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let sim = sim.clone();
    tokio::spawn(async move { sim.serve_io(far).await });
    let (client, connection) = hyper::client::conn::http1::handshake(TokioIo::new(near)).await.unwrap();
    tokio::spawn(connection);
    client
}
