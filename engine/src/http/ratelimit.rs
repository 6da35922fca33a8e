//! `RateLimit-Policy` and `RateLimit`, as draft-ietf-httpapi-ratelimit-headers-11
//! writes them: what each limit is, and what it leaves the one who asked.

use std::fmt::Write as _;

use hyper::header::{HeaderName, HeaderValue};

use super::respond::{Problem, Reply};
use crate::admission::{Limit, Standing};
use crate::config::BuyerRules;

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LEFT: HeaderName = HeaderName::from_static("ratelimit");

type RateHeaders = Option<[(HeaderName, HeaderValue); 2]>;

/// Policies do not change while the engine runs, so their text is made once for each
/// set of limits that can be asked together.
#[derive(Debug)]
pub struct Policies([Option<HeaderValue>; 1 << Limit::ALL.len()]);

fn bit(limit: Limit) -> usize {
    1 << limit as usize
}

impl Policies {
    pub fn new(rules: &BuyerRules) -> Self {
        let policy = |limit: Limit| {
            let rate = rules.rate(limit)?;
            let quota = rate.burst.get();
            // In this time the whole quota comes back.
            let window = whole_seconds(rate.interval * quota);
            Some(format!("\"{}\";q={quota};w={window}", limit.name()))
        };
        Self(std::array::from_fn(|asked| {
            let limits = Limit::ALL.into_iter().filter(|l| asked & bit(*l) != 0);
            let policies = limits.map(policy).collect::<Option<Vec<_>>>()?;
            let text = (!policies.is_empty()).then(|| policies.join(", "))?;
            HeaderValue::try_from(text).ok()
        }))
    }

    /// The answer as it is where no limit was asked.
    pub(super) fn told(
        &self,
        standing: &Standing,
        answer: Result<Reply, Problem>,
    ) -> Result<Reply, Problem> {
        let Some(headers) = self.headers(standing) else {
            return answer;
        };
        match answer {
            Ok(mut reply) => {
                reply.response.headers_mut().extend(headers);
                Ok(reply)
            }
            Err(mut problem) => {
                problem.headers.extend(headers);
                Err(problem)
            }
        }
    }

    fn headers(&self, standing: &Standing) -> RateHeaders {
        let (mut asked, mut text) = (0, String::new());
        for limit in Limit::ALL {
            let Some(left) = standing.left(limit) else {
                continue;
            };
            let between = if asked == 0 { "" } else { ", " };
            asked |= bit(limit);
            if text.is_empty() {
                text.reserve(80);
            }
            let (name, requests) = (limit.name(), left.requests);
            let more_after = whole_seconds(left.more_after);
            // Writing to a string cannot fail.
            let _ = write!(text, "{between}\"{name}\";r={requests};t={more_after}");
        }
        let policy = self.0[asked].clone()?;
        let left = HeaderValue::try_from(text).ok()?;
        Some([(POLICY, policy), (LEFT, left)])
    }
}

/// As Retry-After counts: rounded up, never zero.
fn whole_seconds(time: std::time::Duration) -> u64 {
    u64::from(time.subsec_nanos() > 0)
        .saturating_add(time.as_secs())
        .max(1)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use super::*;
    use crate::admission::{AdmissionMetrics, Asker, Limits};
    use crate::config::Rate;
    use crate::domain::ids::{DeviceId, UserId};

    fn rules() -> BuyerRules {
        let rate = |ms, burst| {
            let (interval, burst) = (Duration::from_millis(ms), NonZeroU32::new(burst)?);
            Some(Rate { interval, burst })
        };
        BuyerRules {
            per_user: rate(6_000, 10),
            per_device: rate(250, 3),
            per_ip: rate(10, 1_000),
            keys_max: 1_024,
            ..BuyerRules::default()
        }
    }

    fn said(rules: &BuyerRules, device: Option<&str>, times: usize) -> Option<[String; 2]> {
        let metrics = AdmissionMetrics::register(&prometheus::Registry::new()).expect("metrics");
        let limits = Limits::new(rules, 7, &metrics);
        let device = device.map(|d| DeviceId::parse(d).expect("a device"));
        let asker = Asker {
            user: &UserId::parse("ana").expect("a user"),
            device: device.as_ref(),
            ip: [192, 0, 2, 1].into(),
        };
        let mut standing = Standing::default();
        for _ in 0..times {
            standing = limits.clear((), &asker, Duration::from_secs(9)).0;
        }
        let headers = Policies::new(rules).headers(&standing)?;
        Some(headers.map(|(_, value)| value.to_str().expect("text").to_owned()))
    }

    #[test]
    fn every_limit_that_was_asked_says_what_it_is_and_what_it_leaves() {
        assert_eq!(
            said(&rules(), Some("phone"), 1),
            Some([
                r#""user";q=10;w=60, "device";q=3;w=1, "ip";q=1000;w=10"#.to_owned(),
                r#""user";r=9;t=6, "device";r=2;t=1, "ip";r=999;t=1"#.to_owned(),
            ])
        );
        assert_eq!(
            said(&rules(), None, 2),
            Some([
                r#""user";q=10;w=60, "ip";q=1000;w=10"#.to_owned(),
                r#""user";r=8;t=6, "ip";r=998;t=1"#.to_owned(),
            ])
        );
    }

    #[test]
    fn a_limit_that_says_no_leaves_nothing_and_the_others_were_not_asked() {
        assert_eq!(
            said(&rules(), Some("phone"), 4),
            Some([
                r#""user";q=10;w=60, "device";q=3;w=1"#.to_owned(),
                r#""user";r=6;t=6, "device";r=0;t=1"#.to_owned(),
            ])
        );
    }

    #[test]
    fn without_limits_there_is_nothing_to_say() {
        assert_eq!(said(&BuyerRules::default(), Some("phone"), 3), None);
    }
}
