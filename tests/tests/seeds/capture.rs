//! Captured answers as scripted ones: `data/seeds/NAME.http`, verbatim but for placeholders in braces.

use larder_tests::prelude::*;
use larder_tests::scripted::{Body, Reply};

/// An answer in the making.
pub(super) struct Capture {
    name: String,
    text: String,
    body: Option<Content>,
}

/// The captured answer `name`, such as `hub/ping`.
pub(super) fn captured(name: &str) -> Capture {
    let path = format!("{}/data/seeds/{name}.http", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    Capture {
        name: name.to_owned(),
        text,
        body: None,
    }
}

impl Capture {
    /// Puts `value` where `{placeholder}` stands.
    pub(super) fn fill(mut self, placeholder: &str, value: &str) -> Self {
        self.text = self.text.replace(&format!("{{{placeholder}}}"), value);
        self
    }

    /// The content, which is kept apart from the captured head.
    pub(super) fn body(mut self, content: impl Into<Content>) -> Self {
        self.body = Some(content.into());
        self
    }

    /// The answer. Panics if the capture contradicts itself, for then a placeholder was filled wrongly.
    pub(super) fn reply(self) -> Reply {
        let (head, text) = self.text.split_once("\n\n").unwrap_or((&self.text, ""));
        let content = self.body.unwrap_or_else(|| text.to_owned().into());
        let length = content.len().to_string();
        let mut lines = head.lines();
        let status_line = lines.next().expect("a status line");
        let mut words = status_line.splitn(3, ' ').skip(1);
        let status = words.next().expect("a status").parse().expect("a number");
        let mut reply = Reply::new(status, "");
        reply.reason = words.next().map(str::to_owned);
        for line in lines {
            let (name, value) = line.split_once(": ").expect("a header line");
            let value = value.replace("{length}", &length);
            assert!(
                !value.contains('{') || value.contains('"'),
                "{}: {line} is not filled",
                self.name
            );
            reply = reply.header(name, value);
        }
        assert_eq!(
            reply.get_header("Content-Length"),
            Some(length.as_str()),
            "{}: another body than was captured",
            self.name
        );
        reply.body = Body::whole(content);
        reply
    }

    /// The answer as a rule's action.
    pub(super) fn action(self) -> Action {
        Action::reply(self.reply())
    }
}

/// The bytes of the file `name` in `data/vectors/`.
pub(super) fn vector(name: &str) -> Vec<u8> {
    let path = format!("{}/data/vectors/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A made-up token in the shape of a JWT whose parts have these lengths.
pub(super) fn jwt(header: usize, claims: usize, signature: usize) -> String {
    let part = |lead: &str, length: usize| format!("{lead:A<length$}");
    let parts = [
        part("eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCIsI", header),
        part("eyJhY2Nlc3MiOlt7", claims),
        part("Eoak7qmncDqGRbklBwy2-_", signature),
    ];
    parts.join(".")
}

/// A made-up opaque token as gcr's are, with the characters that need care.
pub(super) fn opaque(length: usize) -> String {
    format!("{:A<1$}=", "AJAD5v0sN9g4+pkrSkVn/8YbmfHP", length - 1)
}

/// Makes `content` a blob of `repo` that `up` redirects to `cdn`, both as captured in `data/seeds/DIR/`. Returns the
/// digest, and path and query at the CDN.
pub(super) fn redirect(
    dir: &str,
    up: &FakeRegistry,
    cdn: &Cdn,
    repo: &str,
    content: &[u8],
) -> (String, String) {
    let digest = up.add_blob(repo, content.to_vec());
    let location = cdn.sign(content.to_vec(), &digest);
    let answer = captured(&format!("{dir}/blob"))
        .fill("location", &location)
        .fill("digest", &digest);
    up.script(on_blob(&digest).get(), answer.action());
    let target = location.strip_prefix(&cdn.url()).unwrap().to_owned();
    let headers = captured(&format!("{dir}/cdn"))
        .body(content.to_vec())
        .reply()
        .headers;
    let wanted = target.clone();
    let as_captured = Action::with(move |_, reply| {
        if reply.status == 200 {
            reply.headers.clone_from(&headers);
        }
    });
    cdn.script(
        on_any().when(move |request| request.target == wanted),
        as_captured,
    );
    (digest, target)
}
