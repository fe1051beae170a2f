//! Puts jobs that wait for others by key or name behind them.
//!
//! On the wire `after` names earlier jobs only. A job without such a word can go at any time, so it is sent as it
//! is read; only those that wait are held back until the file's end, and then sorted (Kahn, 1962): always the first
//! in file order of those that wait for nobody any more. Jobs are not linked to each other but to labels, so a
//! thousand jobs behind a thousand others are two thousand links and not a million.

use crate::model::After;
use crate::wire::job::Draft;
use std::cmp::Reverse;
use std::collections::hash_map::RandomState;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::hash::BuildHasher;

/// What is known of the jobs of a file so far.
#[derive(Default)]
pub struct Order<T> {
    /// Digests of the keys of all jobs that were let through: a key goes before a name.
    passed_keys: HashSet<u64>,
    hasher: RandomState,
    held: Vec<Held<T>>,
}

/// A job that waits.
struct Held<T> {
    item: T,
    key: Option<Box<str>>,
    name: Option<Box<str>>,
    after: Vec<Box<str>>,
}

/// Jobs that wait for each other in a circle: each one's item and the label that it waits for.
pub type Cycle<T> = Vec<(T, Box<str>)>;

impl<T> Order<T> {
    pub fn new() -> Order<T> {
        Order { passed_keys: HashSet::new(), hasher: RandomState::new(), held: Vec::new() }
    }

    /// Whether the job waits for others of its file, and so must be held.
    pub fn must_hold(draft: &Draft) -> bool {
        draft.after.iter().any(|after| matches!(after, After::Label(_)))
    }

    /// Notes a job that goes at once.
    pub fn pass(&mut self, draft: &Draft) {
        if let Some(key) = &draft.key {
            self.passed_keys.insert(self.hasher.hash_one(&**key));
        }
    }

    /// Keeps a job back.
    pub fn hold(&mut self, draft: Draft, item: T) {
        let labels = draft.after.into_iter().filter_map(|after| match after {
            After::Label(label) => Some(label),
            After::Id(_) => None,
        });
        self.held.push(Held { item, key: draft.key, name: draft.name, after: labels.collect() });
    }

    /// The jobs that were kept back, each behind those that it waits for.
    ///
    /// # Errors
    /// They wait for each other.
    pub fn sorted(self) -> Result<Vec<T>, Cycle<T>> {
        let labels = self.labels();
        // Of each label: how many that have it are still to come, and who waits for it.
        let mut missing: HashMap<&str, usize> = HashMap::new();
        let mut waiting: HashMap<&str, Vec<usize>> = HashMap::new();
        for provided in labels.iter().flatten() {
            *missing.entry(provided).or_default() += 1;
        }
        let mut blockers = vec![0_usize; self.held.len()];
        for (at, held) in self.held.iter().enumerate() {
            for label in held.after.iter().filter(|label| missing.contains_key(&***label)) {
                waiting.entry(label).or_default().push(at);
                blockers[at] += 1;
            }
        }
        let mut free: BinaryHeap<Reverse<usize>> = blockers
            .iter()
            .enumerate()
            .filter(|(_, count)| **count == 0)
            .map(|(at, _)| Reverse(at))
            .collect();
        let mut sorted = Vec::with_capacity(self.held.len());
        while let Some(Reverse(at)) = free.pop() {
            sorted.push(at);
            for label in &labels[at] {
                let left = missing.get_mut(label).expect("every provided label was counted");
                *left -= 1;
                if *left > 0 {
                    continue;
                }
                for next in waiting.remove(label).unwrap_or_default() {
                    blockers[next] -= 1;
                    if blockers[next] == 0 {
                        free.push(Reverse(next));
                    }
                }
            }
        }
        let circle = (sorted.len() < self.held.len()).then(|| circle(&self.held, &labels, &blockers));
        self.take(&sorted, circle)
    }

    /// The labels by which the others can wait for each held job: its key; its name unless a key is that word.
    fn labels(&self) -> Vec<Vec<&str>> {
        let keys: HashSet<&str> = self.held.iter().filter_map(|held| held.key.as_deref()).collect();
        let is_key =
            |word: &str| keys.contains(word) || self.passed_keys.contains(&self.hasher.hash_one(word));
        let of_one = |held: &'_ Held<T>| held.name.as_deref().is_some_and(|name| !is_key(name));
        let by_name: Vec<bool> = self.held.iter().map(of_one).collect();
        let both = self.held.iter().zip(by_name);
        both.map(|(held, by_name)| {
            let name = held.name.as_deref().filter(|_| by_name);
            held.key.as_deref().into_iter().chain(name).collect()
        })
        .collect()
    }

    /// The items in this order, or those of the circle.
    fn take(self, sorted: &[usize], circle: Option<Vec<(usize, Box<str>)>>) -> Result<Vec<T>, Cycle<T>> {
        let mut items: Vec<Option<T>> = self.held.into_iter().map(|held| Some(held.item)).collect();
        let mut take = |at: usize| items[at].take().expect("each place is taken once");
        match circle {
            None => Ok(sorted.iter().map(|at| take(*at)).collect()),
            Some(circle) => Err(circle.into_iter().map(|(at, label)| (take(at), label)).collect()),
        }
    }
}

/// A circle among the jobs that still have blockers: from any of them, step to one that it waits for, until a step
/// leads back.
fn circle<T>(held: &[Held<T>], labels: &[Vec<&str>], blockers: &[usize]) -> Vec<(usize, Box<str>)> {
    let stuck = || (0..held.len()).filter(|at| blockers[*at] > 0);
    let mut provider: HashMap<&str, usize> = HashMap::new();
    for at in stuck() {
        for label in &labels[at] {
            provider.entry(label).or_insert(at);
        }
    }
    let mut path: Vec<(usize, Box<str>)> = Vec::new();
    let mut seen: HashMap<usize, usize> = HashMap::new();
    let mut at = stuck().next().expect("called when some are stuck");
    loop {
        if let Some(start) = seen.insert(at, path.len()) {
            return path.split_off(start);
        }
        let step = held[at].after.iter().find_map(|label| Some((label, *provider.get(&**label)?)));
        let (label, next) = step.expect("a stuck job waits for another stuck one");
        path.push((at, label.clone()));
        at = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::job::{self, Defaults};

    /// Sorts jobs given as `key|name|after,after`; a job is called by its place.
    fn sort(jobs: &[&str]) -> Result<Vec<usize>, Vec<(usize, String)>> {
        let mut order = Order::new();
        let mut passed = Vec::new();
        for (at, job) in jobs.iter().enumerate() {
            let [key, name, after] = job.split('|').collect::<Vec<_>>()[..] else { panic!("three parts") };
            let word = |word: &str| if word.is_empty() { "null".to_owned() } else { format!("{word:?}") };
            let after: Vec<String> = after.split(',').filter(|word| !word.is_empty()).map(word).collect();
            let text = format!(
                r#"{{"run":"x","key":{},"name":{},"after":[{}]}}"#,
                word(key),
                word(name),
                after.join(",")
            );
            let draft = job::parse(&text, &Defaults::default()).expect("a job");
            if Order::<usize>::must_hold(&draft) {
                order.hold(draft, at);
            } else {
                order.pass(&draft);
                passed.push(at);
            }
        }
        let held = order.sorted().map_err(|cycle| {
            cycle.into_iter().map(|(at, label)| (at, label.into_string())).collect::<Vec<_>>()
        })?;
        passed.extend(held);
        Ok(passed)
    }

    #[test]
    fn whoever_waits_comes_behind_and_the_rest_keep_their_places() {
        assert_eq!(sort(&["c||b", "b||a", "a||", "d||"]), Ok(vec![2, 3, 1, 0]));
        assert_eq!(sort(&["||x", "||x", "x||"]), Ok(vec![2, 0, 1]));
        assert_eq!(sort(&["a||nobody", "b||a"]), Ok(vec![0, 1]));
    }

    #[test]
    fn a_name_stands_for_all_jobs_that_have_it() {
        assert_eq!(sort(&["||part", "|part|a", "a||", "|part|a"]), Ok(vec![2, 1, 3, 0]));
    }

    #[test]
    fn a_key_goes_before_a_name() {
        // The last waits for the key `a`, not for itself, though it has that name.
        assert_eq!(sort(&["a||", "|a|a"]), Ok(vec![0, 1]));
        assert_eq!(sort(&["z||", "a||z", "|a|a"]), Ok(vec![0, 1, 2]));
    }

    #[test]
    fn a_circle_is_named_without_what_leads_to_it() {
        let cycle = sort(&["start||a", "a||b", "b||c", "c||a"]).expect_err("a circle");
        assert_eq!(cycle, [(1, "b".to_owned()), (2, "c".to_owned()), (3, "a".to_owned())]);
        assert_eq!(sort(&["a||a"]).expect_err("itself"), [(0, "a".to_owned())]);
    }

    #[test]
    fn many_behind_many_are_quick() {
        let mut jobs = vec!["|first|root"; 2_000];
        jobs.extend(vec!["|second|first"; 2_000]);
        jobs.push("root||");
        let sorted = sort(&jobs).expect("no circle");
        assert_eq!(sorted[0], 4_000);
        assert!(sorted[1..=2_000].iter().all(|at| *at < 2_000));
    }
}
