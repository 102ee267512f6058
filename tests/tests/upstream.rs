//! What upstream registries do, and a mirror must cope with: one test or more for each statement about them.
//!
//! Names begin with the part of the research that they prove (`d3_…`). Not here, because a mirror can do nothing wrong
//! with it: the quota of HEAD requests and of web APIs (D.1), a page size above 1000 (D.7: the client's own query, passed
//! on), the code of an HTTP/2 reset (D.4, D.5: INTERNAL_ERROR and PROTOCOL_ERROR are one kind of cut).

mod upstream {
    mod bodies;
    mod challenges;
    mod credentials;
    mod hops;
    mod limits;
    mod manifests;
    mod quirks;
    mod redirects;
    mod support;
    mod tls;
    mod tokens;
}
