//! The lightest client that logs in: many connections on one thread, for measuring the simulator.
//!
//! `load --info JSON --sessions N [--tls] [--in-flight K] [--hold SECONDS] [--rounds R]`, where JSON is the line that
//! the simulator prints. Prints one JSON line per round: logins per second, the simulator's resident memory per
//! connection. `--rounds 2` logs in again, with TLS sessions resumed.

#![allow(clippy::disallowed_methods, reason = "a driver: the bans of clippy.toml are for the core")]

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use runner_proto::frame::{self, FrameDecoder};
use runner_proto::noise::{Initiator, KeyPair, Transport};
use runner_proto::payload::login_payload;
use runner_proto::ws::{self, Message, Opcode, Role, UpgradeRequest, UpgradeResponse};
use runner_sim::core::{DEFAULT_REVISION, DEVICE, Fleet};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use serde_json::{Value, json};

type Failure = Box<dyn std::error::Error>;

enum Step {
    Upgrade(UpgradeResponse),
    Hello(Option<Initiator>),
    Success(Transport),
    Online,
}

struct Connection {
    stream: TcpStream,
    tls: Option<ClientConnection>,
    out: VecDeque<u8>,
    step: Step,
    ws: ws::Decoder,
    frames: FrameDecoder,
    index: u32,
}

struct Setup {
    address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
    root: [u8; 32],
    fleet: Fleet,
}

impl Setup {
    fn dial(&self, index: u32) -> Result<Connection, Failure> {
        let key = [7; 16];
        let host = self.address.to_string();
        let request = UpgradeRequest {
            host: &host,
            path: "/ws/chat",
            origin: "https://web.whatsapp.com",
            key,
            extra: &[],
        };
        let mut head = Vec::new();
        request.write(&mut head)?;
        let tls = match &self.tls {
            Some(config) => {
                let name = ServerName::try_from("127.0.0.1")?;
                Some(ClientConnection::new(Arc::clone(config), name)?)
            }
            None => None,
        };
        let mut connection = Connection {
            stream: TcpStream::connect(self.address)?,
            tls,
            out: VecDeque::new(),
            step: Step::Upgrade(UpgradeResponse::new(key)),
            ws: ws::Decoder::new(Role::Client),
            frames: FrameDecoder::new(),
            index,
        };
        connection.send(&head)?;
        Ok(connection)
    }
}

impl Connection {
    fn send(&mut self, plain: &[u8]) -> io::Result<()> {
        match &mut self.tls {
            Some(tls) => tls.writer().write_all(plain),
            None => {
                self.out.extend(plain);
                Ok(())
            }
        }
    }

    fn send_frame(&mut self, intro: bool, payload: &[u8]) -> Result<(), Failure> {
        let mut bytes = Vec::new();
        if intro {
            frame::write_intro(&mut bytes, None);
        }
        frame::write(&mut bytes, payload)?;
        let mut message = Vec::new();
        ws::write_message(&mut message, Opcode::Binary, &bytes, Some([1, 2, 3, 4]));
        Ok(self.send(&message)?)
    }

    /// Reads and writes what can be; true when this call brought it online.
    fn turn(&mut self, setup: &Setup, buffer: &mut [u8]) -> Result<bool, Failure> {
        let mut online = false;
        loop {
            self.flush()?;
            let plain = match self.read(buffer) {
                Ok(Some(plain)) => plain,
                Ok(None) => break,
                Err(error) => return Err(error.into()),
            };
            if !matches!(self.step, Step::Online) {
                online |= self.handle(plain, setup)?;
            }
        }
        self.flush()?;
        Ok(online)
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<Vec<u8>>> {
        let would_block = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock;
        match &mut self.tls {
            None => match self.stream.read(buffer) {
                Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(got) => Ok(Some(buffer[..got].to_vec())),
                Err(error) if would_block(&error) => Ok(None),
                Err(error) => Err(error),
            },
            Some(tls) => match tls.read_tls(&mut self.stream) {
                Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {
                    let state = tls.process_new_packets().map_err(io::Error::other)?;
                    let mut plain = vec![0; state.plaintext_bytes_to_read()];
                    tls.reader().read_exact(&mut plain)?;
                    Ok(Some(plain))
                }
                Err(error) if would_block(&error) => Ok(None),
                Err(error) => Err(error),
            },
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        let written = match &mut self.tls {
            Some(tls) => {
                let mut written = Ok(0);
                while tls.wants_write() && written.is_ok() {
                    written = tls.write_tls(&mut self.stream);
                }
                written
            }
            None => {
                let bytes = self.out.make_contiguous();
                if bytes.is_empty() {
                    return Ok(());
                }
                let written = self.stream.write(bytes);
                if let Ok(taken) = written {
                    self.out.drain(..taken);
                }
                written
            }
        };
        match written {
            Err(error)
                if !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected) =>
            {
                Err(error)
            }
            _ => Ok(()),
        }
    }

    fn handle(&mut self, mut plain: Vec<u8>, setup: &Setup) -> Result<bool, Failure> {
        let mut input = &mut plain[..];
        if let Step::Upgrade(response) = &mut self.step {
            if !response.read(&mut input)? {
                return Ok(false);
            }
            let mut secret = [9; 32];
            secret[..4].copy_from_slice(&self.index.to_be_bytes());
            let (initiator, hello) = Initiator::xx(KeyPair::from_secret(secret));
            self.step = Step::Hello(Some(initiator));
            self.send_frame(true, &hello)?;
        }
        let mut frames = Vec::new();
        while let Some(message) = self.ws.next(&mut input)? {
            if let Message::Data(mut piece) = message {
                while let Some(frame) = self.frames.next(&mut piece)? {
                    frames.push(frame.to_vec());
                }
            }
        }
        for mut frame in frames {
            match &mut self.step {
                Step::Hello(initiator) => {
                    let initiator = initiator.take().ok_or("a second hello")?;
                    let client = KeyPair::from_secret(setup.fleet.noise_keys(self.index).secret);
                    let payload =
                        login_payload(Fleet::username(self.index), DEVICE, [2, 3000, DEFAULT_REVISION], None);
                    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
                    let established =
                        initiator.read_server_hello(&frame, &client, &payload, &setup.root, now)?;
                    let finish = established.finish.ok_or("no finish")?;
                    self.step = Step::Success(established.transport);
                    self.send_frame(false, &finish)?;
                }
                Step::Success(transport) => {
                    let plain = transport.open(&mut frame)?;
                    // Token 76 is `success`, behind a flag byte and a list header.
                    if plain.get(3) != Some(&76) {
                        return Err("no <success>".into());
                    }
                    self.step = Step::Online;
                    return Ok(true);
                }
                _ => {}
            }
        }
        Ok(false)
    }
}

fn resident_bytes(pid: u64) -> Result<u64, Failure> {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm"))?;
    let pages: u64 = statm.split_whitespace().nth(1).ok_or("statm")?.parse()?;
    Ok(pages * 4096)
}

fn cpu_seconds(pid: &str) -> Result<f64, Failure> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<_> = stat.rsplit(')').next().ok_or("stat")?.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(ticks as f64 / 100.0)
}

fn main() -> Result<(), Failure> {
    let mut info = Value::Null;
    let (mut sessions, mut in_flight, mut hold, mut rounds, mut secure) =
        (100_u32, 200_usize, 0_u64, 1_u32, false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or("a value is missing");
        match argument.as_str() {
            "--info" => info = serde_json::from_str(&value()?)?,
            "--sessions" => sessions = value()?.parse()?,
            "--in-flight" => in_flight = value()?.parse()?,
            "--hold" => hold = value()?.parse()?,
            "--rounds" => rounds = value()?.parse()?,
            "--tls" => secure = true,
            other => return Err(format!("no option {other}").into()),
        }
    }
    let port = info["port"].as_u64().ok_or("no port")?;
    let pid = info["pid"].as_u64().ok_or("no pid")?;
    let root_hex = info["rootKeyHex"].as_str().ok_or("no root")?;
    let mut root = [0; 32];
    for (byte, at) in root.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&root_hex[at..at + 2], 16)?;
    }
    let tls = if secure {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(info["caFile"].as_str().ok_or("no CA")?)?)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        Some(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
    } else {
        None
    };
    let address = SocketAddr::from(([127, 0, 0, 1], u16::try_from(port)?));
    let setup = Setup { address, tls, root, fleet: Fleet::new(runner_sim::DEFAULT_SEED, sessions) };
    for round in 1..=rounds {
        let before = (resident_bytes(pid)?, cpu_seconds(&pid.to_string())?, cpu_seconds("self")?);
        let began = Instant::now();
        let connections = log_in(&setup, sessions, in_flight)?;
        let took = began.elapsed().as_secs_f64();
        std::thread::sleep(Duration::from_secs(1 + hold));
        let after = (resident_bytes(pid)?, cpu_seconds(&pid.to_string())?, cpu_seconds("self")?);
        let line = json!({
            "round": round,
            "tls": secure,
            "sessions": sessions,
            "seconds": took,
            "loginsPerSecond": f64::from(sessions) / took,
            "simResidentBytes": after.0,
            "simBytesPerConnection": after.0.saturating_sub(before.0) / u64::from(sessions),
            "simCpuPerLoginMs": (after.1 - before.1) * 1000.0 / f64::from(sessions),
            "clientCpuPerLoginMs": (after.2 - before.2) * 1000.0 / f64::from(sessions),
        });
        #[allow(clippy::print_stdout, reason = "the result")]
        {
            println!("{line}");
        }
        drop(connections);
        std::thread::sleep(Duration::from_secs(1));
    }
    Ok(())
}

fn log_in(setup: &Setup, sessions: u32, in_flight: usize) -> Result<Vec<Connection>, Failure> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1024);
    let mut connections: Vec<Connection> = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    let mut online = 0;
    let give_up = Instant::now() + Duration::from_secs(300);
    while online < sessions as usize {
        while connections.len() < sessions as usize && connections.len() - online < in_flight {
            let mut connection = setup.dial(u32::try_from(connections.len())?)?;
            let token = Token(connections.len());
            poll.registry().register(
                &mut connection.stream,
                token,
                Interest::READABLE | Interest::WRITABLE,
            )?;
            connections.push(connection);
        }
        poll.poll(&mut events, Some(Duration::from_secs(1)))?;
        for event in &events {
            online += usize::from(connections[event.token().0].turn(setup, &mut buffer)?);
        }
        if Instant::now() > give_up {
            return Err(format!("{online} of {sessions} online after five minutes").into());
        }
    }
    Ok(connections)
}
