//! Checkpoints in an S3 server: a process of its own, which this test starts. `./test integration` installs it and says
//! where it is: `MILLRACE_S3_SERVER` is the program, `AWS_ENDPOINT_URL` where it is to listen, and the other `AWS_`
//! variables are anything.

// All of this is test code: it asserts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use millrace_processor::checkpoint::{Chain, Changes, FORMAT, Found, Manifest, Store, merged};

/// Ends with the test.
struct Server {
    process: Child,
    address: String,
}

impl Server {
    fn start() -> Self {
        let variable = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
        let endpoint = url::Url::parse(&variable("AWS_ENDPOINT_URL")).unwrap();
        let (host, port) = (endpoint.host_str().unwrap(), endpoint.port().unwrap().to_string());
        let process = Command::new(variable("MILLRACE_S3_SERVER"))
            .args(["-H", host, "-p", &port])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { process, address: format!("{host}:{port}") };
        let begun = Instant::now();
        while server.make_bucket().is_none() {
            assert!(begun.elapsed() < Duration::from_secs(30), "{} does not answer", server.address);
            std::thread::park_timeout(Duration::from_millis(100));
        }
        server
    }

    /// `None`: it does not answer yet.
    fn make_bucket(&self) -> Option<()> {
        let mut stream = TcpStream::connect(&self.address).ok()?;
        let head = format!(
            "PUT /millrace HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            self.address
        );
        stream.write_all(head.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        assert!(answer.starts_with("HTTP/1.1 2"), "{answer}");
        Some(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

fn manifest() -> Manifest {
    Manifest {
        version: FORMAT,
        app: "sensors".into(),
        partition: 3,
        id: 0,
        created_ms: 1_000,
        duration_us: 0,
        offsets: vec![("iot-sensors".into(), 7)],
        changelog_offset: 5,
        watermark_ms: None,
        params: Vec::new(),
        entries: 1,
        files: Vec::new(),
    }
}

async fn write(chain: &mut Chain, key: &str, value: &[u8]) -> Manifest {
    let (mut manifest, mut changes) = (manifest(), Changes::default());
    changes.put(key.as_bytes(), Some(value));
    chain.write(&mut manifest, changes, None, Instant::now()).await.unwrap();
    manifest
}

/// The newest checkpoint's id and value of `n`.
fn told(found: &Found) -> Option<(u64, String)> {
    let loaded = found.loaded.as_ref()?;
    let files: Vec<&[u8]> = loaded.files.iter().map(Vec::as_slice).collect();
    let n = merged(&files).map(Result::unwrap).find(|(key, _)| *key == b"n")?.1;
    Some((loaded.manifest.id, String::from_utf8(n.to_vec()).unwrap()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
#[ignore = "needs an S3 server: `./test integration` installs one"]
async fn checkpoints_in_s3_are_written_removed_verified_and_fallen_back_from() {
    let server = Server::start();
    let store = Store::open(&url::Url::parse("s3://millrace/some/prefix").unwrap()).unwrap();
    let newest = || store.newest("sensors", 3, |_| Ok(()));
    assert!(newest().await.loaded.is_none());
    let mut chain = Chain::new(store.clone(), "sensors", 3, None, None);
    write(&mut chain, "padding", &[b'x'; 100_000]).await;
    for n in 1..=12 {
        write(&mut chain, "n", n.to_string().as_bytes()).await;
    }
    let found = newest().await;
    assert_eq!(told(&found), Some((13, "12".into())));
    assert!(found.passed_over.is_empty());
    // Ten checkpoints became a base, three deltas are behind it; the newest of the chain before is kept.
    let names = store.names(&store.folder("sensors", 3)).await.unwrap();
    assert_eq!(names.iter().filter(|name| name.ends_with(".json")).count(), 4, "{names:?}");
    assert_eq!(names.iter().filter(|name| name.ends_with(".base")).count(), 2, "{names:?}");
    let newest_file = &found.loaded.unwrap().manifest.files.last().unwrap().name.clone();
    // Missing, then torn.
    let folder = store.folder("sensors", 3);
    store.delete(&folder, newest_file).await.unwrap();
    let found = newest().await;
    assert_eq!(told(&found), Some((12, "11".into())));
    assert_eq!(found.passed_over, [format!("checkpoint 13: {newest_file} is missing")]);
    store.put(&folder, newest_file, Vec::new()).await.unwrap();
    assert_eq!(newest().await.passed_over, [format!("checkpoint 13: {newest_file} has 0 bytes of 11")]);
    assert_eq!(store.folders(store.root()).await.unwrap(), ["sensors"]);
    // Away: told, and soon; what was not written is in the next one.
    drop(server);
    let (mut unwritten, mut changes) = (manifest(), Changes::default());
    changes.put(b"n", Some(b"13"));
    let begun = Instant::now();
    assert!(chain.write(&mut unwritten, changes, None, Instant::now()).await.is_err());
    assert!(newest().await.passed_over[0].starts_with("the checkpoints can't be listed"));
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    let _server = Server::start();
    write(&mut chain, "m", b"1").await;
    let names = store.names(&store.folder("sensors", 3)).await.unwrap();
    assert_eq!(names.len(), 2, "the server keeps everything in memory, so this is all there is: {names:?}");
}
