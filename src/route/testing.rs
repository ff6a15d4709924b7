//! A route for the unit tests of this crate.

use super::{Activity, ErrorBody, HostHeader, Route, Timeouts, Tokens};
use crate::{fairness::Limits, upstream::Upstream};
use std::{sync::Arc, time::Duration};

/// A route for everything on `app.test`, with every key at its default and an upstream where nobody listens.
pub(crate) fn route(name: &str) -> Route {
    Route {
        index: 0,
        name: name.parse().expect("a name"),
        host: "app.test".parse().expect("a host"),
        path: "/".into(),
        exact: false,
        upstream: Upstream::plain("127.0.0.1:1"),
        strip_path: false,
        host_header: HostHeader::Preserve,
        providers: [].into(),
        header_provider: None,
        audience: name.into(),
        labels: Default::default(),
        groups_header: [].into(),
        origins: [].into(),
        backstage_user: None,
        cors: None,
        frame: [].into(),
        idle: Activity::Navigations,
        grace: None,
        step_up: None,
        token_issuers: Arc::default(),
        tokens: Tokens::default(),
        credential: None,
        encoded_slash: false,
        body_fields: [].into(),
        redact: None,
        errors: ErrorBody::Problem,
        timeouts: Timeouts {
            connect: Duration::from_secs(5),
            first_byte: Duration::from_secs(60),
            request_idle: Duration::from_secs(30),
            stream_idle: Duration::from_secs(600),
        },
        limits: Limits::default(),
        allow: Vec::new(),
    }
}
