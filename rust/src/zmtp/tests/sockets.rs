// SPDX-License-Identifier: Apache-2.0

//! Sockets against each other and against raw bytes.

use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use vllm_zmtp::command::{SocketType, opening, ping, pong};
use vllm_zmtp::frame::encode_message;
use vllm_zmtp::{Dealer, Limits, Listener, Message, Pull, Push, Router, RouterEvent, SendError};

/// Far beyond what anything here takes; only a hang reaches it.
const DEADLINE: Duration = Duration::from_secs(30);

fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime needs only an epoll descriptor");
    runtime.block_on(async {
        tokio::time::timeout(DEADLINE, test)
            .await
            .expect("the test hangs")
    })
}

fn loopback() -> (Listener, String) {
    let listener = Listener::bind("tcp://127.0.0.1:0").expect("a loopback port is free");
    let address = listener.address().expect("bound");
    (listener, address)
}

fn router(limits: Limits) -> (Router, String) {
    let (listener, address) = loopback();
    (Router::bind(listener, limits).expect("a listener"), address)
}

async fn raw(address: &str) -> TcpStream {
    let address = address.strip_prefix("tcp://").expect("TCP");
    TcpStream::connect(address).await.expect("it listens")
}

fn message(frames: &[&[u8]]) -> Message {
    frames
        .iter()
        .map(|frame| Bytes::copy_from_slice(frame))
        .collect()
}

fn identity(of: &'static [u8]) -> Bytes {
    Bytes::from_static(of)
}

#[test]
fn a_router_and_its_dealers_talk_by_identity() {
    run(async {
        let (mut router, address) = router(Limits::default());
        let sender = router.sender();
        let large = vec![9; 300_000];
        for name in [b"\x00\x00", b"\x01\x00", b"\x00\x01"] {
            let mut dealer = Dealer::connect(&address, name).await.expect("it listens");
            assert_eq!(router.recv().await, RouterEvent::Connected(identity(name)));
            dealer
                .send(message(&[b"", b"hello", &large]))
                .await
                .expect("connected");
            let heard = RouterEvent::Message(identity(name), message(&[b"", b"hello", &large]));
            assert_eq!(router.recv().await, heard);
            sender
                .send(name, message(&[&large, b"x", &[7; 256]]))
                .expect("connected");
            assert_eq!(
                dealer.recv().await,
                Some(message(&[&large, b"x", &[7; 256]]))
            );
            drop(dealer);
            assert_eq!(
                router.recv().await,
                RouterEvent::Disconnected(identity(name))
            );
            assert_eq!(sender.send(name, message(&[b"x"])), Err(SendError::Gone));
        }
    });
}

#[test]
fn a_pull_takes_what_many_pushes_send_over_unix_sockets() {
    run(async {
        let path = std::env::temp_dir().join(format!("vllm-zmtp-{}", std::process::id()));
        let listener = Listener::bind(&format!("ipc://{}", path.display())).expect("path is free");
        let address = listener.address().expect("bound");
        let mut pull = Pull::bind(listener, Limits::default()).expect("a listener");
        let mut pushes = Vec::new();
        for _ in 0..3 {
            pushes.push(Push::connect(&address).await.expect("it listens"));
        }
        std::fs::remove_file(path).expect("the socket file exists");
        for at in 0..100u8 {
            let push = &pushes[usize::from(at) % 3];
            push.send(message(&[&[at], &[at; 300]]))
                .await
                .expect("connected");
        }
        let mut taken = Vec::new();
        while taken.len() < 100 {
            pull.recv_batch(&mut taken, 64).await;
        }
        let mut of_one: Vec<_> = taken
            .iter()
            .map(|m| m[0][0])
            .filter(|at| at % 3 == 1)
            .collect();
        assert!(of_one.is_sorted(), "the order of one peer is kept");
        of_one.dedup();
        assert_eq!(of_one.len(), 33);
    });
}

#[test]
fn a_hostile_header_closes_its_connection_and_no_other() {
    run(async {
        let (mut router, address) = router(Limits::default());
        let mut honest = Dealer::connect(&address, b"\x01\0")
            .await
            .expect("it listens");
        assert_eq!(
            router.recv().await,
            RouterEvent::Connected(identity(b"\x01\0"))
        );
        let mut hostile = raw(&address).await;
        let huge = [&[2][..], &(256u64 << 30).to_be_bytes()].concat();
        let bytes = [opening(SocketType::Dealer, b"\x02\0"), huge].concat();
        hostile.write_all(&bytes).await.expect("connected");
        let mut rest = Vec::new();
        hostile.read_to_end(&mut rest).await.expect("it is closed");
        assert_eq!(
            router.recv().await,
            RouterEvent::Connected(identity(b"\x02\0"))
        );
        assert_eq!(
            router.recv().await,
            RouterEvent::Disconnected(identity(b"\x02\0"))
        );
        let sender = router.sender();
        sender
            .send(b"\x01\0", message(&[b"still here"]))
            .expect("connected");
        assert_eq!(honest.recv().await, Some(message(&[b"still here"])));
    });
}

#[test]
fn a_peer_that_says_nothing_is_closed_in_time() {
    run(async {
        let limits = Limits {
            handshake: Duration::from_millis(20),
            ..Limits::default()
        };
        let (_router, address) = router(limits);
        for partial in [&b""[..], &opening(SocketType::Dealer, b"")[..70]] {
            let mut silent = raw(&address).await;
            silent.write_all(partial).await.expect("connected");
            let mut rest = Vec::new();
            silent.read_to_end(&mut rest).await.expect("it is closed");
        }
    });
}

#[test]
fn connections_beyond_the_limit_are_closed() {
    run(async {
        let limits = Limits {
            connections: 1,
            ..Limits::default()
        };
        let (mut router, address) = router(limits);
        let first = Dealer::connect(&address, b"\x01\0")
            .await
            .expect("it listens");
        router.recv().await;
        let mut second = raw(&address).await;
        let mut rest = Vec::new();
        // Closed before it said anything: no greeting came.
        second.read_to_end(&mut rest).await.expect("it is closed");
        assert_eq!(rest, b"");
        drop(first);
        router.recv().await;
    });
}

#[test]
fn a_ping_of_either_side_is_answered() {
    run(async {
        let (mut router, address) = router(Limits::default());
        let sender = router.sender();
        let mut peer = raw(&address).await;
        let hello = opening(SocketType::Dealer, b"\x01\0");
        peer.write_all(&hello).await.expect("connected");
        assert_eq!(
            router.recv().await,
            RouterEvent::Connected(identity(b"\x01\0"))
        );
        let mut answer = vec![0; opening(SocketType::Router, b"").len()];
        peer.read_exact(&mut answer).await.expect("it greets");
        assert_eq!(answer, opening(SocketType::Router, b""));

        peer.write_all(&ping()).await.expect("connected");
        let mut answer = vec![0; pong(b"").len()];
        peer.read_exact(&mut answer).await.expect("it answers");
        assert_eq!(answer, pong(b""));

        let before = sender.heard(b"\x01\0").expect("connected");
        assert!(sender.ping(b"\x01\0"));
        let mut asked = vec![0; ping().len()];
        peer.read_exact(&mut asked).await.expect("it asks");
        assert_eq!(asked, ping());
        peer.write_all(&pong(b"")).await.expect("connected");
        while sender.heard(b"\x01\0") == Some(before) {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn an_identity_in_use_is_kept_by_a_peer_that_answers_and_lost_by_one_that_does_not() {
    run(async {
        let (mut router, address) = router(Limits::default());
        let sender = router.sender();
        let mut mute = raw(&address).await;
        let hello = opening(SocketType::Dealer, b"\x01\0");
        mute.write_all(&hello).await.expect("connected");
        assert_eq!(
            router.recv().await,
            RouterEvent::Connected(identity(b"\x01\0"))
        );
        let mut refused = raw(&address).await;
        refused.write_all(&hello).await.expect("connected");
        let mut rest = Vec::new();
        refused.read_to_end(&mut rest).await.expect("it is closed");

        assert!(sender.ping(b"\x01\0") && sender.ping(b"\x01\0"));
        let mut heir = Dealer::connect(&address, b"\x01\0")
            .await
            .expect("it listens");
        assert_eq!(
            router.recv().await,
            RouterEvent::Disconnected(identity(b"\x01\0"))
        );
        assert_eq!(
            router.recv().await,
            RouterEvent::Connected(identity(b"\x01\0"))
        );
        sender
            .send(b"\x01\0", message(&[b"yours"]))
            .expect("connected");
        assert_eq!(heir.recv().await, Some(message(&[b"yours"])));
    });
}

#[test]
fn a_peer_that_does_not_read_fills_its_own_queue_only() {
    run(async {
        let limits = Limits {
            queue_bytes: 1 << 20,
            ..Limits::default()
        };
        let (mut router, address) = router(limits);
        let sender = router.sender();
        let mut stalled = raw(&address).await;
        let hello = opening(SocketType::Dealer, b"\x01\0");
        stalled.write_all(&hello).await.expect("connected");
        router.recv().await;
        let mut reader = Dealer::connect(&address, b"\x02\0")
            .await
            .expect("it listens");
        router.recv().await;
        let block = Bytes::from(vec![0; 100 << 10]);
        let mut sent = 0;
        while sender.send(b"\x01\0", vec![block.clone()]).is_ok() {
            sent += 1;
            tokio::task::yield_now().await;
            assert!(sent < 10_000, "nothing bounds the queue");
        }
        let refused = sender.send(b"\x01\0", vec![block.clone()]);
        assert_eq!(refused, Err(SendError::Full));
        sender.send(b"\x02\0", message(&[b"x"])).expect("room");
        assert_eq!(reader.recv().await, Some(message(&[b"x"])));
    });
}

#[test]
fn a_full_queue_stops_reading_until_it_is_taken_from() {
    run(async {
        let (listener, address) = loopback();
        let limits = Limits {
            queue: 4,
            ..Limits::default()
        };
        let mut pull = Pull::bind(listener, limits).expect("a listener");
        let mut peer = raw(&address).await;
        let mut bytes = opening(SocketType::Push, b"");
        for at in 0..200u8 {
            encode_message(&mut bytes, &message(&[&[at]]));
        }
        peer.write_all(&bytes).await.expect("connected");
        let mut all = Vec::new();
        while all.len() < 200 {
            let before = all.len();
            pull.recv_batch(&mut all, 64).await;
            assert!(all.len() - before <= 4);
        }
        assert!(all.iter().enumerate().all(|(at, m)| m[0][0] == at as u8));
    });
}
