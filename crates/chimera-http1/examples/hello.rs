//! A server that greets, on a free port of loopback: `cargo run -p chimera-http1 --example hello`. It asks
//! itself once and ends.

use bytes::Bytes;
use chimera_http1::{Connection, RequestBody};
use http::{Request, Response};
use http_body_util::Full;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

async fn greet(request: Request<RequestBody>) -> Response<Full<Bytes>> {
    Response::new(Full::new(format!("hello, {}\n", request.uri().path()).into()))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let mut client = TcpStream::connect(listener.local_addr()?).await?;
    let (stream, _) = listener.accept().await?;
    // Without it the last piece of a stream waits for an acknowledgement.
    stream.set_nodelay(true)?;
    let asking = async {
        client.write_all(b"GET /world HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await?;
        let mut answer = String::new();
        client.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let (_, answer) = tokio::join!(Connection::new(stream, greet), asking);
    println!("{}", answer?);
    Ok(())
}
