//! An API server for tests: it keeps objects, streams watches, and fails as it is told to.
//!
//! It keeps a log of all requests, so that a test can say what was never asked. What a server does on its own with objects
//! (defaults, validation, the controllers) it leaves to the test.

mod objects;

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::stream;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Bytes, Frame};
use kube::Client;
use kube::client::Body;
use larder_crds::RegistryMirror;
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::cli::CacheOptions;
use crate::metrics::Metrics;
use crate::run::Lead;
use objects::Objects;

/// The operator's namespace: unlike the product's name, so that a mix-up shows.
pub(crate) const NAMESPACE: &str = "pantry";
/// The path of all mirrors.
pub(crate) const MIRRORS: &str = "/apis/larder.dev/v1alpha1/registrymirrors";
/// How long something that must happen may take, in fake time.
const SOON: Duration = Duration::from_secs(60);

/// The path of a mirror's object.
pub(crate) fn path(plural: &str, mirror: &str) -> String {
    let group = if plural == "daemonsets" {
        "apis/apps"
    } else {
        "api"
    };
    format!("/{group}/v1/namespaces/{NAMESPACE}/{plural}/larder-mirror-{mirror}")
}

pub(crate) fn options() -> CacheOptions {
    CacheOptions {
        namespace: NAMESPACE.to_owned(),
        cache_node_image: "registry.test/cache-node:9".to_owned(),
        image_pull_policy: "IfNotPresent".to_owned(),
        image_pull_secret: Vec::new(),
        allowed_host_path: vec!["/var/lib/larder".into(), "/etc/containerd".into()],
        ca_bundle_config_map: None,
        priority_class: "system-node-critical".to_owned(),
        selinux_options: None,
    }
}

/// The mirror `simple` with this specification, as a client would send it.
pub(crate) fn document(spec: Value) -> Value {
    json!({
        "apiVersion": "larder.dev/v1alpha1",
        "kind": "RegistryMirror",
        "metadata": {"name": "simple", "uid": "uid-simple", "generation": 3},
        "spec": spec,
    })
}

/// The same, read.
pub(crate) fn mirror(spec: Value) -> RegistryMirror {
    serde_json::from_value(document(spec)).unwrap()
}

/// One request, as it was asked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) body: Value,
}

impl Asked {
    pub(crate) fn is_write(&self) -> bool {
        self.method != Method::GET
    }

    pub(crate) fn is_apply(&self) -> bool {
        self.method == Method::PATCH && self.query.contains("force=true")
    }
}

/// What a request gets instead of its answer.
#[derive(Clone)]
pub(crate) enum Fault {
    /// This status, with this message and cause.
    Status(u16, &'static str, &'static str),
    /// Nothing, ever.
    Silence,
}

struct Rule {
    method: Method,
    path: String,
    times: usize,
    fault: Fault,
}

#[derive(Default)]
struct State {
    objects: Objects,
    asked: Vec<Asked>,
    rules: Vec<Rule>,
    watchers: Vec<(String, bool, UnboundedSender<Bytes>)>,
    lag: Option<(String, Duration)>,
}

/// The API server. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Server(Arc<Mutex<State>>);

/// An operator that leads, until it is dropped.
pub(crate) struct Leading {
    pub(crate) waits_for: watch::Receiver<Option<String>>,
    pub(crate) stop: CancellationToken,
    pub(crate) ended: tokio::task::JoinHandle<()>,
}

impl Drop for Leading {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Server {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn client(&self) -> Client {
        let this = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let this = this.clone();
            async move { Ok::<_, Infallible>(this.answer(request).await) }
        });
        Client::new(service, NAMESPACE)
    }

    /// Starts an operator that leads.
    pub(crate) fn lead(&self) -> Leading {
        let (waits, waits_for) = watch::channel(None);
        let metrics = Arc::new(Metrics::new().unwrap());
        let stop = CancellationToken::new();
        let lead = Lead::new(self.client(), options(), metrics, waits);
        let ended = tokio::spawn(lead.run(stop.clone()));
        Leading {
            waits_for,
            stop,
            ended,
        }
    }

    /// From now on, the next `times` such requests whose path ends so fail.
    pub(crate) fn fail(&self, method: Method, path: &str, times: usize, fault: Fault) {
        self.state().rules.push(Rule {
            method,
            path: path.to_owned(),
            times,
            fault,
        });
    }

    /// Puts an object, as somebody else would.
    pub(crate) fn put(&self, path: &str, object: Value) {
        self.change(path, |objects| objects.put(path, object));
    }

    /// Removes an object, as somebody else would.
    pub(crate) fn remove(&self, path: &str) {
        self.change(path, |objects| objects.remove(path));
    }

    pub(crate) fn get(&self, path: &str) -> Option<Value> {
        self.state().objects.get(path)
    }

    /// The status of the condition of the mirror `simple`, with its message.
    pub(crate) fn condition(&self, kind: &str) -> Option<(String, String)> {
        let mirror = self.get(&format!("{MIRRORS}/simple"))?;
        let conditions = mirror["status"]["conditions"].as_array()?.clone();
        let found = conditions.iter().find(|condition| condition["type"] == kind)?;
        let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
        Some((text("status"), text("message")))
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.state().asked.clone()
    }

    pub(crate) fn count(&self, which: impl Fn(&Asked) -> bool) -> usize {
        self.state().asked.iter().filter(|asked| which(asked)).count()
    }

    /// How often the object was applied.
    pub(crate) fn applied(&self, path: &str) -> usize {
        self.count(|asked| asked.is_apply() && asked.path == path)
    }

    /// Watches of this kind that begin from now on tell of each change this much later.
    pub(crate) fn lag(&self, plural: &str, lag: Duration) {
        self.state().lag = Some((format!("/{plural}"), lag));
    }

    /// Ends all watches, as an API server does that ends.
    pub(crate) fn end_watches(&self) {
        self.state().watchers.clear();
    }

    /// Tells all watches that they are too old, and ends them.
    pub(crate) fn expire_watches(&self) {
        let gone = status(410, "too old resource version", "");
        let line = format!("{}\n", json!({"type": "ERROR", "object": gone}));
        for (_, _, watcher) in self.state().watchers.drain(..) {
            // One that has gone need not be told.
            let _ = watcher.send(line.clone().into());
        }
    }

    /// Waits in fake time until it holds.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let waiting = async {
            while !holds(self) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let waited = tokio::time::timeout(SOON, waiting).await;
        assert!(
            waited.is_ok(),
            "not within {SOON:?}: {what}; asked: {:#?}",
            self.asked()
        );
    }

    fn change(&self, path: &str, how: impl FnOnce(&mut Objects) -> Option<(&'static str, Value)>) {
        let mut state = self.state();
        let Some((kind, object)) = how(&mut state.objects) else {
            return;
        };
        state.watchers.retain(|(collection, metadata_only, watcher)| {
            if !path.starts_with(collection.as_str()) {
                return true;
            }
            let object = if *metadata_only {
                objects::metadata_of(&object)
            } else {
                object.clone()
            };
            let line = format!("{}\n", json!({"type": kind, "object": object}));
            watcher.send(line.into()).is_ok()
        });
    }

    async fn answer(&self, request: Request<Body>) -> Response<BoxBody<Bytes, Infallible>> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let accepts = head
            .headers
            .get("accept")
            .map(|value| value.to_str().unwrap().to_owned());
        let metadata_only = accepts.is_some_and(|accepts| accepts.contains("PartialObjectMetadata"));
        let asked = Asked {
            method: head.method,
            path: head.uri.path().to_owned(),
            query: head.uri.query().unwrap_or_default().to_owned(),
            body: serde_json::from_slice(&body).unwrap_or_default(),
        };
        self.state().asked.push(asked.clone());
        match self.fault(&asked) {
            Some(Fault::Status(code, message, cause)) => return json_of(code, &status(code, message, cause)),
            Some(Fault::Silence) => std::future::pending().await,
            None => {}
        }
        if asked.query.contains("watch=true") {
            return self.watch(&asked.path, metadata_only);
        }
        let (code, answer) = self.act(&asked);
        let answer = match (metadata_only, answer.get("items")) {
            (true, Some(_)) => objects::metadata_of_list(&answer),
            (true, None) if code < 300 => objects::metadata_of(&answer),
            _ => answer,
        };
        json_of(code, &answer)
    }

    fn fault(&self, asked: &Asked) -> Option<Fault> {
        let mut state = self.state();
        let rule = state
            .rules
            .iter_mut()
            .find(|rule| rule.times > 0 && rule.method == asked.method && asked.path.ends_with(&rule.path))?;
        rule.times -= 1;
        Some(rule.fault.clone())
    }

    fn watch(&self, path: &str, metadata_only: bool) -> Response<BoxBody<Bytes, Infallible>> {
        let (sender, receiver) = unbounded_channel();
        self.state()
            .watchers
            .push((path.to_owned(), metadata_only, sender));
        let lag = self.state().lag.clone();
        let lag = lag.filter(|(plural, _)| path.ends_with(plural.as_str()));
        let lag = lag.map_or(Duration::ZERO, |(_, lag)| lag);
        let frames = stream::unfold(receiver, move |mut receiver| async move {
            let line = receiver.recv().await?;
            tokio::time::sleep(lag).await;
            Some((Ok(Frame::data(line)), receiver))
        });
        Response::new(BoxBody::new(StreamBody::new(frames)))
    }

    fn act(&self, asked: &Asked) -> (u16, Value) {
        let path = asked.path.as_str();
        let known = self.get(path);
        match asked.method {
            Method::GET if objects::is_collection(path) => (200, self.state().objects.list(path)),
            Method::POST => (201, asked.body.clone()),
            Method::PATCH if asked.is_apply() => {
                self.change(path, |objects| objects.apply(path, &asked.body));
                (200, self.get(path).unwrap())
            }
            _ if known.is_none() && !path.ends_with("/status") => (404, status(404, "not found", "")),
            Method::GET => (200, known.unwrap_or_default()),
            Method::DELETE => {
                self.change(path, |objects| objects.delete(path));
                (200, status(200, "", ""))
            }
            Method::PATCH => {
                let object = path.trim_end_matches("/status");
                if !self.state().objects.is_current(object, &asked.body) {
                    return (409, status(409, "the object has been modified", ""));
                }
                self.change(object, |objects| objects.merge(object, &asked.body));
                match self.get(object) {
                    Some(patched) => (200, patched),
                    None => (200, known.unwrap_or_else(|| status(404, "not found", ""))),
                }
            }
            _ => (405, status(405, "no such method", "")),
        }
    }
}

fn status(code: u16, message: &str, cause: &str) -> Value {
    let reason = match code {
        403 => "Forbidden",
        404 => "NotFound",
        409 => "Conflict",
        410 => "Expired",
        422 => "Invalid",
        _ => "",
    };
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {},
        "status": if code < 300 { "Success" } else { "Failure" },
        "code": code, "message": message, "reason": reason,
        "details": {"causes": [{"reason": cause}]},
    })
}

fn json_of(code: u16, value: &Value) -> Response<BoxBody<Bytes, Infallible>> {
    let body = BoxBody::new(Full::new(Bytes::from(value.to_string())));
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    response
}
