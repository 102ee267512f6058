//! Bodies: read whole within a limit, streamed with a limit on every pause, or thrown away.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use reqwest::Response;

use super::exchange::Answer;
use super::governor::Permit;
use super::{Error, Kind};

/// The most of a body that is read only to keep its connection.
const DISCARD_BYTES_MAX: usize = 16 * 1024;
/// How long that may take: a new connection costs about as much.
const DISCARD_MAX: Duration = Duration::from_millis(200);

/// The whole body.
pub(super) async fn read(
    place: &str,
    mut response: Response,
    bytes_max: usize,
    idle: Duration,
) -> Result<Bytes, Error> {
    let mut body = BytesMut::new();
    while let Some(chunk) = next_chunk(place, &mut response, idle).await? {
        if body.len() + chunk.len() > bytes_max {
            return Err(Error::new(
                Kind::TooLarge,
                format!("{place}: more than {bytes_max} bytes"),
            ));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// As much of the beginning of the body as comes soon: enough to see what an error is about.
pub(super) async fn read_beginning(mut response: Response) -> Bytes {
    let mut body = BytesMut::new();
    let reading = async {
        while body.len() < DISCARD_BYTES_MAX {
            match response.chunk().await {
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) | Err(_) => return,
            }
        }
    };
    // What came before the limit is all that is wanted.
    let _ = tokio::time::timeout(DISCARD_MAX, reading).await;
    body.freeze()
}

/// Reads a short body to its end, so that its connection can be used again; a longer one is given up.
pub(super) async fn discard(response: Response) {
    let is_short = super::headers::content_length(response.headers())
        .is_some_and(|length| length <= DISCARD_BYTES_MAX as u64);
    if is_short {
        read_beginning(response).await;
    }
}

/// The body as it comes in. Ends after the first error.
pub(super) fn stream(
    answer: Answer,
    idle: Duration,
    permit: Permit,
) -> BoxStream<'static, Result<Bytes, Error>> {
    let place = answer.place();
    let state = Some((answer.response, permit));
    stream::unfold(state, move |state| {
        let place = place.clone();
        async move {
            let (mut response, permit) = state?;
            match next_chunk(&place, &mut response, idle).await {
                Ok(Some(chunk)) => Some((Ok(chunk), Some((response, permit)))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        }
    })
    .boxed()
}

async fn next_chunk(place: &str, response: &mut Response, idle: Duration) -> Result<Option<Bytes>, Error> {
    match tokio::time::timeout(idle, response.chunk()).await {
        Ok(Ok(chunk)) => Ok(chunk),
        Ok(Err(error)) => Err(Error::reading(place, error)),
        Err(_) => Err(Error::new(Kind::Timeout, format!("{place}: the body stalls"))),
    }
}
