//! What happened beside requests, as a report tells it one by one.

use super::{
    time::rfc3339,
    told::{About, Told},
};

/// So many things that a load changed are named.
const NAMED: usize = 5;

/// Something that happened beside requests.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Act {
    /// What it is about.
    pub about: About,
    /// Who did it; empty if nobody is known.
    pub who: String,
    /// What was done.
    pub what: String,
    /// To what.
    pub object: String,
    /// More about it.
    pub detail: String,
}

impl Act {
    /// What is told one by one: what operators did, what was loaded, starts and stops, and what is missing.
    pub(super) fn of(told: &Told<'_>, about: About) -> Option<Self> {
        let act = |who: &str, what: &str, object: &str, detail: String| {
            let [who, what, object] = [who, what, object].map(str::to_owned);
            Some(Self { about, who, what, object, detail })
        };
        if let Some(gap) = &told.gap {
            return act("", "events were lost", "", format!("{} since {}", gap.count, rfc3339(gap.first)));
        }
        if let Some(recovery) = &told.recovery {
            return act("", "recovered", &recovery.segment, recovery.said());
        }
        if let Some(removal) = &told.removal {
            let (first, last, why) = (removal.first, removal.last, &removal.why);
            let span = [removal.from, removal.until].map(rfc3339).join(" to ");
            return act(
                "",
                "removed by retention",
                &removal.segment,
                format!("records {first} to {last}, {span}, for their {why}"),
            );
        }
        let event = told.event.as_ref()?;
        let (unmapped, user) = (&event.unmapped, event.person());
        match about {
            About::Admin => {
                let sessions = match unmapped.sessions.count {
                    0 => String::new(),
                    count => crate::text::counted(count, "session", "sessions"),
                };
                let detail = [&*unmapped.reason, &*sessions].into_iter().filter(|it| !it.is_empty());
                let (what, whom) = (&unmapped.why, &event.entity.name);
                let what = if what.is_empty() { &event.activity_name } else { what };
                let whom = if whom.is_empty() { &user.uid_alt } else { whom }; // of a person there is no other name
                act(&event.actor.user.name, what, whom, detail.collect::<Vec<_>>().join("; "))
            }
            About::Reload => {
                let lists =
                    [("changed", &unmapped.changed), ("added", &unmapped.added), ("removed", &unmapped.removed)];
                let lists = lists.iter().filter(|(_, list)| list.count > 0);
                let lists =
                    lists.map(|(word, list)| format!("{word} {}", list.told(NAMED))).collect::<Vec<_>>().join("; ");
                let refused = !event.status_code.is_empty();
                let detail = if refused { event.status_detail.clone().into_owned() } else { lists };
                act(&user.name, if refused { "load refused" } else { "loaded" }, &event.entity.name, detail)
            }
            About::Start => act("", "started", "", String::new()),
            About::Stop => act("", "stopped", "", String::new()),
            _ => None,
        }
    }
}
