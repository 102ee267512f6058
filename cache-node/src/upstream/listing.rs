//! `Link`: where a registry continues a listing (RFC 8288; distribution-spec, "Listing Tags").
//!
//! Only the query of the next page is kept: the page is asked for at the path where the first one was, so a listing can
//! lead to no other host or repository.

/// The most bytes read of one header line.
const LINE_BYTES_MAX: usize = 16 * 1024;

/// The raw query of the first link in `lines` with the relation `next`, verbatim and without the question mark.
pub fn next_query<'a>(lines: impl IntoIterator<Item = &'a str>) -> Option<String> {
    lines
        .into_iter()
        .filter(|line| line.len() <= LINE_BYTES_MAX)
        .find_map(next_in_line)
}

fn next_in_line(mut line: &str) -> Option<String> {
    loop {
        let (_, after) = line.split_once('<')?;
        let (target, params) = after.split_once('>')?;
        let (params, rest) = split_params(params);
        if is_next(params) {
            let target = target.split('#').next().unwrap_or_default();
            let (_, query) = target.split_once('?')?;
            return (!query.is_empty()).then(|| query.to_owned());
        }
        line = rest;
    }
}

/// The parameters of one link, and what follows the comma that ends it; commas within quotes do not.
fn split_params(text: &str) -> (&str, &str) {
    let mut quoted = false;
    let mut escaped = false;
    for (index, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ',' if !quoted => return (&text[..index], &text[index + 1..]),
            _ => {}
        }
    }
    (text, "")
}

/// `rel` may be quoted or not, and may name several relations.
fn is_next(params: &str) -> bool {
    params.split(';').any(|param| {
        let Some((name, value)) = param.split_once('=') else {
            return false;
        };
        name.trim().eq_ignore_ascii_case("rel")
            && value
                .trim()
                .trim_matches('"')
                .split_ascii_whitespace()
                .any(|relation| relation.eq_ignore_ascii_case("next"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn finds_the_next_page_verbatim() {
        for (line, query) in [
            (
                r#"</v2/a/tags/list?last=b%2Bc&n=1>; rel="next""#,
                Some("last=b%2Bc&n=1"),
            ),
            (
                r#"<https://quay.io/v2/a/tags/list?n=100&next_page=gAA=>; rel="next""#,
                Some("n=100&next_page=gAA="),
            ),
            ("<?n=1&orderby=>;rel=next", Some("n=1&orderby=")),
            (
                r#"</a?x>; rel="prev", </b?y#z>; title="a, b"; rel="last NEXT""#,
                Some("y"),
            ),
            (r#"</b?y>; rel="prev""#, None),
            (r#"</b>; rel="next""#, None),
            (r#"</b?>; rel="next""#, None),
            ("</b?x", None),
            ("</b?x>", None),
            ("", None),
        ] {
            assert_eq!(next_query([line]).as_deref(), query, "{line}");
        }
        assert_eq!(
            next_query(["</a?x>; rel=prev", "</a?y>; rel=next"]).as_deref(),
            Some("y")
        );
    }

    proptest! {
        #[test]
        fn never_panics(line: String, text in "[<>;,=\"?a-z\\\\ ]{0,60}") {
            next_query([line.as_str(), text.as_str()]);
        }

        #[test]
        fn every_query_comes_back(query in "[!-~&&[^<>#]]{1,40}") {
            let line = format!("</v2/a/tags/list?{query}>; rel=\"next\"");
            prop_assert_eq!(next_query([line.as_str()]), Some(query));
        }
    }
}
