//! From a request on the control port to a [`Command`].

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::command::{Command, Ending, Malformed, Push, Refusal, Silence, Target};

/// Why a request is no command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// Nothing is served under that method and path.
    #[error("no such route")]
    NoSuchRoute,
    /// The route exists and the body does not fit.
    #[error("{0}")]
    BadBody(String),
}

/// The routes, as `(method, path)`; `docs/simulator.md` has one row for each.
pub const ROUTES: &[(&str, &str)] = &[
    ("GET", "/info"),
    ("GET", "/stats"),
    ("GET", "/sessions"),
    ("GET", "/devices"),
    ("GET", "/pings"),
    ("GET", "/events"),
    ("GET", "/sent"),
    ("GET", "/heard"),
    ("GET", "/owed"),
    ("POST", "/reset"),
    ("POST", "/push"),
    ("POST", "/send"),
    ("POST", "/stream-error"),
    ("POST", "/stream-end"),
    ("POST", "/failure"),
    ("POST", "/login-policy"),
    ("POST", "/close"),
    ("POST", "/drop-all"),
    ("POST", "/silent"),
    ("POST", "/delay"),
    ("POST", "/malformed"),
    ("POST", "/shape"),
    ("POST", "/unlink"),
    ("POST", "/relink"),
    ("POST", "/refuse"),
    ("POST", "/config"),
    ("POST", "/say"),
    ("POST", "/chatter"),
    ("POST", "/group"),
    ("POST", "/pair"),
    ("POST", "/enter-code"),
    ("POST", "/mishear"),
    ("POST", "/new-identity"),
    ("POST", "/lose-keys"),
    ("POST", "/quit"),
];

impl Command {
    /// Reads a request. `query` is what follows the question mark, `body` is JSON or empty.
    pub fn parse(method: &str, path: &str, query: &str, body: &[u8]) -> Result<Self, RouteError> {
        if !ROUTES.contains(&(method, path)) {
            return Err(RouteError::NoSuchRoute);
        }
        if method == "GET" { Ok(read(path, &Query(query))) } else { order(path, body) }
    }
}

fn read(path: &str, query: &Query<'_>) -> Command {
    let user = query.number("user");
    let since = query.number("since").unwrap_or(0);
    match path {
        "/stats" => Command::Stats,
        "/sessions" => Command::Sessions,
        "/devices" => Command::Devices,
        "/pings" => Command::Pings { user },
        "/events" => Command::Events { since },
        "/sent" => Command::Sent { since, user, tag: query.text("tag").map(str::to_owned) },
        "/heard" => Command::Heard { since, user },
        "/owed" => Command::Owed { user },
        _ => Command::Info,
    }
}

fn order(path: &str, body: &[u8]) -> Result<Command, RouteError> {
    Ok(match path {
        "/reset" => Command::Reset,
        "/push" => Command::Push(parse::<Push>(body)?),
        "/send" => {
            let send: Send = parse(body)?;
            let nodes = if send.nodes.is_empty() { send.node.into_iter().collect() } else { send.nodes };
            Command::Send { target: send.target, nodes, cut_bytes: send.cut_bytes }
        }
        "/stream-error" => {
            let error: StreamError = parse(body)?;
            Command::StreamError {
                target: error.target,
                code: error.code,
                child: error.child,
                child_attrs: error.child_attrs,
                end: error.end.unwrap_or(true),
            }
        }
        "/stream-end" => Command::StreamEnd { target: parse(body)? },
        "/failure" => {
            let failure: Failure = parse(body)?;
            Command::Failure {
                target: failure.target,
                reason: failure.reason.unwrap_or(401),
                attrs: failure.attrs,
            }
        }
        "/login-policy" => {
            let policy: LoginPolicy = parse(body)?;
            // A rule for nobody in particular is for the next logins, whoever they are.
            let target = if policy.target.is_given() { policy.target } else { Target::all() };
            Command::LoginPolicy { target, fault: parse(body)?, count: policy.count.unwrap_or(1) }
        }
        "/close" | "/drop-all" => {
            let close: Close = parse(body)?;
            let all = path == "/drop-all";
            let (code, hard) =
                if all { (1001, close.hard.unwrap_or(true)) } else { (1000, close.hard.unwrap_or(false)) };
            let ending = match (close.fin, hard) {
                (true, _) => Ending::Fin,
                (_, true) => Ending::Reset,
                _ => Ending::Clean(close.code.unwrap_or(code)),
            };
            Command::Close { target: if all { Target::all() } else { close.target }, ending }
        }
        "/silent" => {
            let silent: Silent = parse(body)?;
            let silence = silent.on.unwrap_or(true).then(|| silent.level.unwrap_or_default());
            Command::Silent { target: silent.target, silence }
        }
        "/delay" => {
            let delay: Delay = parse(body)?;
            Command::Delay { target: delay.target, ms: delay.ms }
        }
        "/malformed" => {
            let malformed: MalformedBody = parse(body)?;
            Command::Malformed { target: malformed.target, kind: malformed.kind }
        }
        "/shape" => {
            let shape: ShapeBody = parse(body)?;
            Command::Shape { target: shape.target, shape: parse(body)?, next: shape.next }
        }
        "/unlink" => Command::Unlink { target: parse(body)? },
        "/relink" => Command::Relink { target: parse(body)? },
        "/refuse" => {
            let refuse: Refuse = parse(body)?;
            Command::Refuse {
                seconds: refuse.seconds.unwrap_or(1.0).clamp(0.0, 3600.0),
                mode: refuse.mode,
                status: refuse.status.unwrap_or(503),
            }
        }
        "/config" => Command::Config(parse(body)?),
        "/say" => Command::Say(parse(body)?),
        "/chatter" => Command::Chatter(parse(body)?),
        "/group" => Command::Group(parse(body)?),
        "/pair" => Command::Scan(parse(body)?),
        "/enter-code" => Command::EnterCode(parse(body)?),
        "/mishear" => Command::Mishear(parse(body)?),
        "/new-identity" => Command::NewIdentity(parse(body)?),
        "/lose-keys" => Command::LoseKeys { target: parse(body)? },
        _ => Command::Quit,
    })
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, RouteError> {
    let body = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body).map_err(|error| RouteError::BadBody(error.to_string()))
}

/// `a=1&b=2`, without escapes: the values of this port are numbers and tags.
struct Query<'a>(&'a str);

impl Query<'_> {
    fn text(&self, name: &str) -> Option<&str> {
        self.0
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find(|(key, _)| *key == name)
            .map(|(_, v)| v)
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Send {
    #[serde(flatten)]
    target: Target,
    node: Option<super::command::JsonNode>,
    nodes: Vec<super::command::JsonNode>,
    #[serde(rename = "cutBytes")]
    cut_bytes: usize,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct StreamError {
    #[serde(flatten)]
    target: Target,
    code: Option<u32>,
    child: Option<String>,
    child_attrs: Map<String, Value>,
    end: Option<bool>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Failure {
    #[serde(flatten)]
    target: Target,
    reason: Option<u32>,
    attrs: Map<String, Value>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct LoginPolicy {
    #[serde(flatten)]
    target: Target,
    count: Option<u32>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Close {
    #[serde(flatten)]
    target: Target,
    code: Option<u16>,
    hard: Option<bool>,
    fin: bool,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Silent {
    #[serde(flatten)]
    target: Target,
    on: Option<bool>,
    level: Option<Silence>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Delay {
    #[serde(flatten)]
    target: Target,
    ms: u64,
}

#[derive(Deserialize)]
struct MalformedBody {
    #[serde(flatten)]
    target: Target,
    kind: Malformed,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ShapeBody {
    #[serde(flatten)]
    target: Target,
    /// Also the shape of connections yet to come.
    next: bool,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Refuse {
    seconds: Option<f64>,
    mode: Refusal,
    status: Option<u16>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::LoginFault;

    fn post(path: &str, body: &str) -> Command {
        Command::parse("POST", path, "", body.as_bytes()).expect(path)
    }

    #[test]
    fn every_listed_route_is_a_command() {
        for (method, path) in ROUTES {
            let body = match *path {
                "/login-policy" => r#"{"mode":"failure"}"#,
                "/malformed" => r#"{"kind":"token"}"#,
                "/enter-code" => r#"{"code":"ABCD-EFGH","phone":"15550001111"}"#,
                _ => "",
            };
            assert!(Command::parse(method, path, "", body.as_bytes()).is_ok(), "{method} {path}");
        }
        assert_eq!(Command::parse("GET", "/nothing", "", b"").err(), Some(RouteError::NoSuchRoute));
        assert_eq!(Command::parse("GET", "/push", "", b"").err(), Some(RouteError::NoSuchRoute));
    }

    #[test]
    fn a_user_is_a_number_or_its_digits() {
        for body in [r#"{"user":15}"#, r#"{"user":"15"}"#, r#"{"users":["15"]}"#] {
            let Command::Failure { target, reason, .. } = post("/failure", body) else { panic!("{body}") };
            assert!(target.names(15) && !target.names(16) && reason == 401, "{body}");
        }
        assert!(Command::parse("POST", "/failure", "", br#"{"user":"bob"}"#).is_err());
    }

    #[test]
    fn the_bodies_of_the_reference_server_are_understood() {
        let Command::LoginPolicy { target, fault: LoginFault::Failure { reason: 403, .. }, count: 2 } =
            post("/login-policy", r#"{"mode":"failure","reason":403,"count":2}"#)
        else {
            panic!("login-policy")
        };
        assert!(target.all);
        assert!(matches!(post("/drop-all", "{}"), Command::Close { ending: Ending::Reset, .. }));
        assert!(matches!(
            post("/drop-all", r#"{"hard":false}"#),
            Command::Close { ending: Ending::Clean(1001), .. }
        ));
        assert!(matches!(post("/close", r#"{"sid":3}"#), Command::Close { ending: Ending::Clean(1000), .. }));
        assert!(matches!(
            post("/silent", r#"{"all":true,"on":false}"#),
            Command::Silent { silence: None, .. }
        ));
        assert!(matches!(
            post("/silent", r#"{"all":true,"on":true,"level":"socket"}"#),
            Command::Silent { silence: Some(Silence::Socket), .. }
        ));
        assert!(matches!(
            post("/refuse", r#"{"seconds":2,"mode":"503"}"#),
            Command::Refuse { mode: Refusal::Status, status: 503, .. }
        ));
        assert!(matches!(
            post("/refuse", r#"{"seconds":2}"#),
            Command::Refuse { mode: Refusal::Unlisten, .. }
        ));
        let Command::StreamError { code: None, child: Some(child), child_attrs, end: true, .. } =
            post("/stream-error", r#"{"user":"4002","child":"conflict","childAttrs":{"type":"replaced"}}"#)
        else {
            panic!("stream-error")
        };
        assert_eq!((child.as_str(), child_attrs["type"].as_str()), ("conflict", Some("replaced")));
        let Command::Push(push) = post("/push", r#"{"user":"4020","n":20,"template":"ib","coalesce":4}"#)
        else {
            panic!("push")
        };
        assert_eq!((push.n, push.coalesce, push.template.as_deref()), (20, 4, Some("ib")));
    }
}
