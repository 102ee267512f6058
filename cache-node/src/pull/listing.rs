//! Lists: tags pass through, referrers follow the rules of tags.

use bytes::Bytes;
use tokio::time::timeout;

use super::access::Visitor;
use super::manifest::{ManifestAnswer, NameKey};
use super::{ANSWER_WAIT, Cache, Error, Origin, Subject, Target, client_error};
use crate::oci::{Algorithm, Digest, MediaType, RepoName};
use crate::store::Manifest;
use crate::tags::{Freshness, Key, Name};
use crate::upstream::{self, Listing, Page};

/// A list, and how it was come by.
#[derive(Clone, Debug)]
pub struct ListingAnswer {
    /// The list as upstream sent it.
    pub listing: Listing,
    /// Where it came from.
    pub origin: Origin,
}

impl Cache {
    /// A page of the tags of `repository`, by upstream's raw `query`: always upstream's own word, because a list is
    /// asked for to learn what is new.
    ///
    /// # Errors
    /// Upstream has no such repository, or could not be asked within 22 s.
    pub async fn tags(
        &self,
        target: &Target,
        repository: &RepoName,
        query: Option<&str>,
    ) -> Result<ListingAnswer, Error> {
        let page = query.map_or(Page::Of { n: None, last: None }, Page::Query);
        let asked = target.upstream()?.list_tags(repository, page);
        let listing = in_time(target, asked).await?;
        Ok(ListingAnswer {
            listing,
            origin: Origin::Upstream,
        })
    }

    /// What refers to the manifest `subject`. A first page that is also the last follows the rules of tags; further
    /// pages, by upstream's raw `query`, pass through.
    ///
    /// # Errors
    /// Upstream does not know the API or the repository, or could not be asked within 22 s.
    pub async fn referrers(
        &self,
        target: &Target,
        repository: &RepoName,
        subject: &Digest,
        artifact_type: Option<&str>,
        query: Option<&str>,
    ) -> Result<ListingAnswer, Error> {
        if query.is_some_and(has_paging) {
            let asked = target
                .upstream()?
                .list_referrers(repository, subject, None, query);
            let listing = in_time(target, asked).await?;
            return Ok(ListingAnswer {
                listing,
                origin: Origin::Upstream,
            });
        }
        let visitor = self.visitor(target, repository).await;
        let key = Key {
            registry: target.registry.host.clone(),
            repository: visitor.repository().clone(),
            name: Name::Referrers(*subject, artifact_type.map(str::to_owned)),
        };
        let known = self.known(target, &visitor, &key, false).await;
        let filters_applied = known
            .content
            .as_ref()
            .and_then(|(entry, _)| entry.filters_applied.clone());
        if let Some(manifest) = known.manifest_if(Freshness::Fresh) {
            let answer = ManifestAnswer::new(manifest, Origin::Store);
            return Ok(ListingAnswer::new(answer, filters_applied, None));
        }
        let stale = known.manifest_if(Freshness::Expired);
        self.fresh_referrers(target, &visitor, key, stale, filters_applied)
            .await
    }

    async fn fresh_referrers(
        &self,
        target: &Target,
        visitor: &Visitor,
        key: Key,
        stale: Option<Manifest>,
        stale_filters: Option<String>,
    ) -> Result<ListingAnswer, Error> {
        let flight_key = NameKey {
            name: key.name.clone(),
            scope: visitor.scope.clone(),
        };
        let flight = self.inner.listing_flights.join(&flight_key, || {
            let (cache, target, visitor) = (self.clone(), target.clone(), visitor.clone());
            async move { cache.list_referrers(&target, &visitor, key).await }
        });
        let (mut next, mut filters) = (None, stale_filters);
        let answer = async {
            let (answer, listing) = flight.await.unwrap_or(Err(Error::Overloaded))?;
            (next, filters) = (listing.next, listing.filters_applied);
            Ok(answer)
        };
        let answer = self.or_stale(target, answer, stale).await?;
        Ok(ListingAnswer::new(answer, filters, next))
    }

    /// Asks upstream, and remembers the list if it is whole.
    async fn list_referrers(
        &self,
        target: &Target,
        visitor: &Visitor,
        key: Key,
    ) -> Result<(ManifestAnswer, Listing), Error> {
        let Name::Referrers(subject, artifact_type) = &key.name else {
            return Err(Error::Malformed);
        };
        let asked = visitor
            .upstream()?
            .list_referrers(visitor.repository(), subject, artifact_type.as_deref(), None)
            .await;
        let listing = match asked {
            Ok(listing) => listing,
            Err(error) => {
                let error = self.upstream_error(target, visitor, Subject::Listing, None, &error);
                let settled = self.settle(target, key, Err(error.clone()), None).await;
                return Err(settled.err().unwrap_or(error));
            }
        };
        let manifest = as_content(&listing);
        let answer = ManifestAnswer {
            warnings: listing.warnings.clone(),
            ..ManifestAnswer::new(manifest, Origin::Upstream)
        };
        if listing.next.is_some() {
            return Ok((answer, listing));
        }
        self.inner.rights.proved(&answer.manifest.digest, &visitor.scope);
        self.keep(&answer.manifest).await;
        self.flush_rights().await;
        let answer = self
            .settle(target, key, Ok(answer), listing.filters_applied.clone())
            .await?;
        Ok((answer, listing))
    }
}

impl ListingAnswer {
    fn new(answer: ManifestAnswer, filters_applied: Option<String>, next: Option<String>) -> Self {
        let ManifestAnswer {
            manifest,
            origin,
            warnings,
        } = answer;
        let Manifest { media_type, body, .. } = manifest;
        Self {
            listing: Listing {
                body,
                media_type: Some(media_type),
                next,
                filters_applied,
                warnings,
            },
            origin,
        }
    }
}

/// A list has no digest of its own; the one of its bytes is where the store keeps it.
fn as_content(listing: &Listing) -> Manifest {
    let body: Bytes = listing.body.clone();
    let media_type = listing.media_type.clone().unwrap_or_else(MediaType::oci_index);
    Manifest {
        digest: Digest::of(Algorithm::Sha256, &body),
        media_type,
        body,
    }
}

/// Whether a raw query asks for more than a filter: the parameters of paging are each registry's own.
fn has_paging(query: &str) -> bool {
    query
        .split('&')
        .any(|parameter| !parameter.is_empty() && !parameter.starts_with("artifactType="))
}

async fn in_time<T>(
    target: &Target,
    asked: impl Future<Output = Result<T, upstream::Error>>,
) -> Result<T, Error> {
    let answer = timeout(ANSWER_WAIT, asked).await.map_err(|_| Error::TimedOut)?;
    answer.map_err(|error| client_error(target, Subject::Listing, &error))
}

#[cfg(test)]
mod tests {
    use super::has_paging;

    #[test]
    fn a_filter_is_not_a_page() {
        assert!(!has_paging(""));
        assert!(!has_paging("artifactType=a%2Fb"));
        assert!(has_paging("artifactType=a%2Fb&last=x"));
        assert!(has_paging("next_page=abc"));
    }
}
