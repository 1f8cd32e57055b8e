//! The plainest good hyper server and reverse proxy: what Chimera's own work is measured against.

use std::{convert::Infallible, error::Error};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, Uri, body::Incoming, header, server::conn::http1, service::service_fn};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use tokio::net::{TcpListener, TcpStream};

use crate::{body, options::Options};

/// Binds and says where.
pub(crate) async fn listen(options: &Options) -> Result<TcpListener, Box<dyn Error>> {
    let listener = TcpListener::bind(&options.listen).await?;
    println!("listening {}", listener.local_addr()?);
    Ok(listener)
}

async fn accept(listener: &TcpListener) -> Option<TcpStream> {
    match listener.accept().await {
        Ok((stream, _)) => stream.set_nodelay(true).ok().map(|()| stream),
        Err(_) => {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            None
        }
    }
}

/// Drains each request and answers with the same 1.5 KB.
pub(crate) async fn server(options: &Options) -> Result<(), Box<dyn Error>> {
    let listener = listen(options).await?;
    let answer = Bytes::from(body::answer());
    loop {
        let Some(stream) = accept(&listener).await else {
            continue;
        };
        let answer = answer.clone();
        tokio::spawn(async move {
            let service = service_fn(|request: Request<Incoming>| {
                let answer = answer.clone();
                async move {
                    request.into_body().collect().await?;
                    let mut response = Response::new(Full::new(answer));
                    response
                        .headers_mut()
                        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
                    Ok::<_, hyper::Error>(response)
                }
            });
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            // A client that leaves is no event for a server that holds nothing.
            let _: hyper::Result<()> = connection.await;
        });
    }
}

/// Forwards method, path and body as they stream, through a pooled client.
pub(crate) async fn proxy(options: &Options) -> Result<(), Box<dyn Error>> {
    let listener = listen(options).await?;
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client: Client<_, Incoming> =
        Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(connector);
    let upstream: &'static str = Box::leak(options.upstream.clone().into_boxed_str());
    loop {
        let Some(stream) = accept(&listener).await else {
            continue;
        };
        let client = client.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| forward(&client, upstream, request));
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            let _: hyper::Result<()> = connection.await;
        });
    }
}

type ProxyBody = http_body_util::Either<Incoming, Full<Bytes>>;

async fn forward(
    client: &Client<HttpConnector, Incoming>,
    upstream: &str,
    mut request: Request<Incoming>,
) -> Result<Response<ProxyBody>, Infallible> {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let uri = Uri::builder().scheme("http").authority(upstream);
    let answer = match uri.path_and_query(path).build() {
        Ok(uri) => {
            *request.uri_mut() = uri;
            request.headers_mut().remove(header::HOST);
            client.request(request).await.ok()
        }
        Err(_) => None,
    };
    Ok(match answer {
        Some(response) => response.map(ProxyBody::Left),
        None => {
            let mut response = Response::new(ProxyBody::Right(Full::default()));
            *response.status_mut() = hyper::StatusCode::BAD_GATEWAY;
            response
        }
    })
}
