//! From one process to the next: nobody is refused, and nothing that was begun is cut.

use std::{
    net::TcpStream,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use crate::support::{
    Answer, Client, Provider, Server, Step, answer, chat, done, event, stream_head, with_ports,
};

fn place(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("chimera-it-handover-{name}-{}", std::process::id()))
}

fn config(provider: &Provider, place: &std::path::Path) -> String {
    provider.config(&format!("[server]\ndrain_min = \"200ms\"\nhandover = \"{}\"\n", place.display()))
}

fn says() -> Provider {
    Provider::start(|request| match request.contains("slowly") {
        true => {
            let mut steps = vec![stream_head()];
            for _ in 0..10 {
                steps.extend([event("a"), Step::Pause(Duration::from_millis(40))]);
            }
            steps.push(done());
            steps
        }
        false => vec![answer("fine")],
    })
}

/// Asks on one connection for as long as its answers allow it, as clients with pools do.
fn ask_until(stop: &AtomicBool, address: std::net::SocketAddr, name: usize, answered: &AtomicUsize) {
    let mut kept: Option<Client> = None;
    for number in 0.. {
        if stop.load(SeqCst) {
            return;
        }
        let mut client = kept.take().unwrap_or_else(|| Client::connect(address));
        client.send(chat("gpt-test", &format!("{name} {number}"), false));
        let answer: Answer = client.try_answer().expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text());
        answered.fetch_add(1, SeqCst);
        // One in three leaves of its own accord.
        if answer.header("connection") != Some("close") && number % 3 != 0 {
            kept = Some(client);
        }
    }
}

fn stream_until(stop: &AtomicBool, address: std::net::SocketAddr, name: usize, streamed: &AtomicUsize) {
    for number in 0.. {
        if stop.load(SeqCst) {
            return;
        }
        let mut client = Client::connect(address);
        client.send(chat("gpt-test", &format!("slowly {name} {number}"), true));
        let mut all = Vec::new();
        client.head().expect("a head");
        while let Some(chunk) = client.chunk() {
            all.extend(chunk);
        }
        assert!(all.ends_with(b"data: [DONE]\n\n"), "cut: {}", String::from_utf8_lossy(&all));
        assert_eq!(String::from_utf8_lossy(&all).matches("\"content\":\"a\"").count(), 10);
        streamed.fetch_add(1, SeqCst);
    }
}

#[test]
fn p02_twenty_restarts_under_load_lose_no_request_and_cut_no_stream() {
    let (provider, place) = (says(), place("load"));
    let config = config(&provider, &place);
    let mut server = Server::start(&config);
    let (data, admin) = (server.data, server.admin);
    let stop = Arc::new(AtomicBool::new(false));
    let counts: [Arc<AtomicUsize>; 2] = Default::default();
    let clients: Vec<_> = (0..12)
        .map(|name| {
            let (stop, [answered, streamed]) = (stop.clone(), counts.clone());
            thread::spawn(move || match name % 3 {
                0 => ask_until(&stop, data, name, &answered),
                _ => stream_until(&stop, data, name, &streamed),
            })
        })
        .collect();
    let mut before = [0, 0];
    for restart in 0..20 {
        let next = Server::start(&config);
        assert_eq!((next.data, next.admin), (data, admin), "the same addresses");
        assert_eq!(server.wait(), Some(0), "it ends by itself: {}", server.log());
        server = next;
        let now = counts.clone().map(|count| count.load(SeqCst));
        assert!(now > before, "restart {restart}: there is load: {now:?}");
        before = now;
    }
    assert_eq!(server.admin("GET", "/health/ready").status, 200);
    stop.store(true, SeqCst);
    for client in clients {
        client.join().expect("nothing is lost");
    }
    std::fs::remove_file(&place).unwrap();
}

/// Stops a server with a stream under way, and starts the next one on the same addresses before it has ended.
fn starts_beside(drain_min: &str, may_start: impl Fn(&Server) -> bool) {
    let (provider, place) = (says(), place(drain_min));
    let config = config(&provider, &place).replace("200ms", drain_min);
    let mut server = Server::start(&config);
    let mut stream = Client::connect(server.data);
    stream.send(chat("gpt-test", "slowly", true));
    stream.head().unwrap();
    server.signal("-TERM");
    while !may_start(&server) {}
    let fixed = [server.data, server.admin]
        .into_iter()
        .fold(with_ports(&config), |text, address| text.replacen("127.0.0.1:0", &address.to_string(), 1));
    let next = Server::start(&fixed);
    let mut client = Client::connect(next.data);
    client.send(chat("gpt-test", "hello", false));
    assert_eq!(client.answer().status, 200);
    assert_eq!(next.admin("GET", "/health/ready").status, 200);
    let mut all = Vec::new();
    while let Some(chunk) = stream.chunk() {
        all.extend(chunk);
    }
    assert!(all.ends_with(b"data: [DONE]\n\n"), "cut: {}", String::from_utf8_lossy(&all));
    drop(stream);
    assert_eq!(server.wait(), Some(0));
    std::fs::remove_file(&place).unwrap();
}

#[test]
fn p02_a_next_process_starts_while_the_one_before_is_told_to_stop_and_accepts_still() {
    starts_beside("2s", |server| server.admin("GET", "/health/ready").status == 503);
}

#[test]
fn p02_a_next_process_starts_while_the_one_before_has_only_its_admin_listener_left() {
    starts_beside("0s", |server| TcpStream::connect(server.data).is_err());
}

/// A connection that idles may have a request on its way: it is not closed under its client's hands.
#[test]
fn p02_connections_that_idle_stay_until_they_were_used_again() {
    let (provider, place) = (says(), place("idle"));
    let mut server = Server::start(&config(&provider, &place));
    let mut idle: Vec<_> = (0..3).map(|_| Client::connect(server.data)).collect();
    for client in &mut idle {
        client.send(chat("gpt-test", "before", false));
        assert_eq!(client.answer().header("connection"), None);
    }
    let next = Server::start(&config(&provider, &place));
    // Longer than drain_min, and than a look at each connection.
    thread::sleep(Duration::from_millis(1500));
    for client in &mut idle {
        client.send(chat("gpt-test", "after", false));
        let answer = client.answer();
        assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
        assert!(client.is_closed_within(Duration::from_secs(5)));
    }
    assert_eq!(server.wait(), Some(0));
    drop(next);
    std::fs::remove_file(&place).unwrap();
}

#[test]
fn p02_a_next_process_that_cannot_start_leaves_the_one_before_as_it_was() {
    let (provider, place) = (says(), place("fails"));
    let server = Server::start(&config(&provider, &place));
    // It takes the listeners, and finds only then that another's is on the address that it is to have.
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = format!("listen = \"{}\"\nadmin_listen = \"127.0.0.1:0\"\n", other.local_addr().unwrap());
    let wrong = config(&provider, &place).replacen("[server]\n", &format!("[server]\n{listen}"), 1);
    let path = std::env::temp_dir().join(format!("chimera-it-handover-wrong-{}.toml", std::process::id()));
    std::fs::write(&path, wrong).unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_chimera"))
        .arg("serve")
        .arg("--config")
        .arg(&path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("server.listen: cannot listen"), "{said}");
    let mut client = Client::connect(server.data);
    client.send(chat("gpt-test", "still there", false));
    let answer = client.answer();
    assert_eq!((answer.status, answer.header("connection")), (200, None));
    assert_eq!(server.admin("GET", "/health/ready").status, 200);
    std::fs::remove_file(&path).unwrap();
    std::fs::remove_file(&place).unwrap();
}
