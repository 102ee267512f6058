//! `WWW-Authenticate`: what a registry asks for before it answers (RFC 9110, 11.6.1).
//!
//! Registries break the grammar in ways that a strict parser punishes (unquoted URLs, token68 values, odd case), so
//! this reads what it can and skips the rest. Pure: no I/O, no trust decision.

/// The most challenges read of one response: no registry sends more than three.
const CHALLENGES_MAX: usize = 16;
/// The most bytes read of one header line.
const LINE_BYTES_MAX: usize = 16 * 1024;

/// One challenge that we know how to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// Answered with user name and password.
    Basic,
    /// Answered with a token from `realm`.
    Bearer {
        /// Where tokens are had; may be relative to the challenging URL.
        realm: String,
        /// The name of the service that the token shall be for.
        service: Option<String>,
        /// The scope that the server thinks is needed: often missing or a placeholder.
        scope: Option<String>,
    },
}

/// The challenges in `lines`, the values of every `WWW-Authenticate` header in their order. Unknown schemes, and Bearer
/// without a realm, are left out.
pub fn parse<'a>(lines: impl IntoIterator<Item = &'a str>) -> Vec<Challenge> {
    lines
        .into_iter()
        .filter(|line| line.len() <= LINE_BYTES_MAX)
        .flat_map(|line| Scanner { rest: line }.challenges())
        .filter_map(RawChallenge::understood)
        .take(CHALLENGES_MAX)
        .collect()
}

struct RawChallenge<'a> {
    scheme: &'a str,
    params: Vec<(&'a str, String)>,
}

impl RawChallenge<'_> {
    fn understood(mut self) -> Option<Challenge> {
        if self.scheme.eq_ignore_ascii_case("basic") {
            return Some(Challenge::Basic);
        }
        if !self.scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        Some(Challenge::Bearer {
            realm: self.take("realm")?,
            service: self.take("service"),
            scope: self.take("scope"),
        })
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let index = self
            .params
            .iter()
            .position(|(key, value)| key.eq_ignore_ascii_case(name) && !value.is_empty())?;
        Some(self.params.swap_remove(index).1)
    }
}

/// Reads a line as words: a word followed by `=` is a parameter, any other begins a challenge.
struct Scanner<'a> {
    rest: &'a str,
}

impl<'a> Scanner<'a> {
    fn challenges(mut self) -> Vec<RawChallenge<'a>> {
        let mut challenges: Vec<RawChallenge<'a>> = Vec::new();
        loop {
            self.skip(|c| c == ',' || c.is_ascii_whitespace());
            let word = self.take_while(is_token);
            if word.is_empty() {
                // Not the beginning of anything: step over it, so that every turn of the loop gets on.
                let mut chars = self.rest.chars();
                if chars.next().is_none() || challenges.len() > CHALLENGES_MAX {
                    return challenges;
                }
                self.rest = chars.as_str();
                continue;
            }
            let after_word = self.rest;
            self.skip(|c| c.is_ascii_whitespace());
            match self.rest.strip_prefix('=') {
                Some(rest) => {
                    self.rest = rest;
                    self.skip(|c| c.is_ascii_whitespace());
                    let value = self.value();
                    if let Some(challenge) = challenges.last_mut() {
                        challenge.params.push((word, value));
                    }
                }
                None => {
                    self.rest = after_word;
                    challenges.push(RawChallenge {
                        scheme: word,
                        params: Vec::new(),
                    });
                }
            }
        }
    }

    fn value(&mut self) -> String {
        let Some(mut rest) = self.rest.strip_prefix('"') else {
            // Wider than a token: an unquoted realm is a URL.
            return self
                .take_while(|c| c != ',' && c != '"' && !c.is_ascii_whitespace())
                .to_owned();
        };
        let mut value = String::new();
        loop {
            let mut chars = rest.chars();
            match chars.next() {
                Some('"') => {
                    self.rest = chars.as_str();
                    return value;
                }
                Some('\\') => value.extend(chars.next()),
                Some(c) => value.push(c),
                // The closing quote is missing: what was read may be cut, so it counts as absent.
                None => {
                    self.rest = "";
                    return String::new();
                }
            }
            rest = chars.as_str();
        }
    }

    fn skip(&mut self, is_skipped: impl Fn(char) -> bool) {
        self.rest = self.rest.trim_start_matches(is_skipped);
    }

    fn take_while(&mut self, is_taken: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest.trim_start_matches(is_taken);
        let taken = &self.rest[..self.rest.len() - rest.len()];
        self.rest = rest;
        taken
    }
}

fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~/".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        Challenge::Bearer {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
            scope: scope.map(str::to_owned),
        }
    }

    #[test]
    fn reads_what_registries_send() {
        let hub = bearer("https://auth.docker.io/token", Some("registry.docker.io"), None);
        let ecr = bearer("https://r/token", None, Some("repository:a/b:pull,push"));
        let cases: [(&str, &[Challenge]); 14] = [
            (
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io""#,
                std::slice::from_ref(&hub),
            ),
            (
                r#"BEARER Service = "registry.docker.io" ,  REALM="https://auth.docker.io/token","#,
                std::slice::from_ref(&hub),
            ),
            (
                r#"BASIC realm="Sonatype Nexus Repository Manager""#,
                &[Challenge::Basic],
            ),
            ("Basic", &[Challenge::Basic]),
            (
                r#"Bearer realm="https://r/token",scope="repository:a/b:pull,push",error="insufficient_scope""#,
                std::slice::from_ref(&ecr),
            ),
            (
                r#"Negotiate, Basic realm="a, b", Bearer realm="/token""#,
                &[Challenge::Basic, bearer("/token", None, None)],
            ),
            (r#"Negotiate YWJj/+== , Basic realm="x""#, &[Challenge::Basic]),
            (
                r#"Bearer realm="https://r/\"t\\",service="""#,
                &[bearer(r#"https://r/"t\"#, None, None)],
            ),
            (
                "Bearer realm=https://r/token?a=b,service=s",
                &[bearer("https://r/token?a=b", Some("s"), None)],
            ),
            (r#"Bearer service="s""#, &[]),
            (r#"Bearer realm="https://cut"#, &[]),
            (r#"realm="stray", Basic"#, &[Challenge::Basic]),
            ("", &[]),
            (",,= \"\" é", &[]),
        ];
        for (line, challenges) in cases {
            assert_eq!(parse([line]), challenges, "{line}");
        }
        assert_eq!(
            parse(["Negotiate", r#"Bearer realm="/t""#, "basic"]),
            [bearer("/t", None, None), Challenge::Basic]
        );
    }

    proptest! {
        #[test]
        fn never_panics(lines: Vec<String>, text in "[ ,=\"\\\\a-zB/]{0,60}") {
            parse(lines.iter().map(String::as_str));
            parse([text.as_str()]);
        }

        #[test]
        fn every_quoted_value_comes_back(realm in "[ -~]{1,40}", service in "[ -~]{1,40}") {
            let quote = |text: &str| text.replace('\\', r"\\").replace('"', "\\\"");
            let line = format!("Bearer realm=\"{}\",service=\"{}\"", quote(&realm), quote(&service));
            prop_assert_eq!(parse([line.as_str()]), [bearer(&realm, Some(&service), None)]);
        }
    }
}
