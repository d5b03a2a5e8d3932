//! Records that look like those of a small shop. What is drawn depends on the seed alone; times are
//! those of the call.

use bytes::Bytes;
use serde_json::{Value, json};

use super::super::when;
use crate::client::NewRecord;
use crate::clock::Random;

/// How many customers there are.
pub(super) const CUSTOMERS: u64 = 50;

const NAMES: &[&str] =
    &["Ada", "Boris", "Chen", "Dana", "Emeka", "Freya", "Goran", "Hana", "Ines", "Jonas"];
const SURNAMES: &[&str] =
    &["Alvarez", "Berg", "Costa", "Dubois", "Eriksen", "Fischer", "Garcia", "Haddad"];
const CITIES: &[&str] =
    &["Bergen", "Hamburg", "Kyoto", "Lagos", "Lisbon", "Montreal", "Porto", "Valparaiso"];
const TIERS: &[&str] = &["basic", "basic", "basic", "silver", "gold"];
/// What there is to buy, and its price in cents.
const ARTICLES: &[(&str, u64)] = &[
    ("anchor", 12_900),
    ("buoy", 4_550),
    ("chart", 1_990),
    ("compass", 3_400),
    ("lantern", 2_750),
    ("oar", 5_200),
    ("rope", 1_250),
    ("sextant", 18_900),
];
const PAGES: &[&str] = &["/", "/search", "/cart", "/checkout", "/account"];
const REFERRERS: &[&str] = &["direct", "search", "newsletter", "partner"];
const STATES: &[&str] = &["placed", "placed", "placed", "paid", "paid", "cancelled"];

/// Draws records.
#[derive(Debug)]
pub(super) struct Generator {
    random: Random,
    orders: u64,
    customers: u64,
}

impl Generator {
    pub(super) fn new(seed: u64) -> Self {
        Self { random: Random::seeded(seed), orders: 0, customers: 0 }
    }

    fn one_of<'a, T>(&self, among: &'a [T]) -> Option<&'a T> {
        among.get(self.random.below(among.len() as u64) as usize)
    }

    fn word(&self, among: &[&'static str]) -> &'static str {
        self.one_of(among).copied().unwrap_or_default()
    }

    fn customer_id(&self) -> String {
        format!("customer-{}", self.random.below(CUSTOMERS))
    }

    /// An order of one to four articles, with the customer as its key.
    pub(super) fn order(&mut self, now_ms: i64) -> NewRecord {
        self.orders += 1;
        let customer = self.customer_id();
        let mut total = 0;
        let items: Vec<Value> = (0..=self.random.below(4))
            .filter_map(|_| self.one_of(ARTICLES))
            .map(|(article, cents)| {
                let quantity = 1 + self.random.below(3);
                total += quantity * cents;
                json!({ "article": article, "quantity": quantity, "price_cents": cents })
            })
            .collect();
        let value = json!({
            "order_id": format!("order-{:06}", self.orders),
            "customer_id": customer,
            "state": self.word(STATES),
            "items": items,
            "total_cents": total,
            "placed_at": when::text(now_ms),
        });
        record(&customer, &value, now_ms)
    }

    /// A visit to a page, with the session as its key.
    pub(super) fn click(&mut self, now_ms: i64) -> NewRecord {
        let session = format!("session-{:04x}", self.random.below(400));
        let page = if self.random.below(3) == 0 {
            self.word(PAGES).to_owned()
        } else {
            let article = self.one_of(ARTICLES).map(|(article, _)| *article);
            format!("/articles/{}", article.unwrap_or_default())
        };
        // Two of five are not signed in.
        let customer = (self.random.below(5) < 3).then(|| self.customer_id());
        let value = json!({
            "session": session,
            "customer_id": customer,
            "page": page,
            "referrer": self.word(REFERRERS),
            "milliseconds": 20 + self.random.below(900),
            "at": when::text(now_ms),
        });
        record(&session, &value, now_ms)
    }

    /// What a customer is like from now on: first all of them, then changes of some.
    pub(super) fn customer(&mut self, now_ms: i64) -> NewRecord {
        let number = match self.customers {
            number @ 0..CUSTOMERS => number,
            _ => self.random.below(CUSTOMERS),
        };
        self.customers += 1;
        let customer = format!("customer-{number}");
        let (name, surname) = (self.word(NAMES), self.word(SURNAMES));
        let value = json!({
            "customer_id": customer,
            "name": format!("{name} {surname}"),
            "city": self.word(CITIES),
            "tier": self.word(TIERS),
            "changed_at": when::text(now_ms),
        });
        record(&customer, &value, now_ms)
    }
}

fn record(key: &str, value: &Value, now_ms: i64) -> NewRecord {
    NewRecord {
        partition: None,
        timestamp: Some(now_ms),
        key: Some(Bytes::from(key.to_owned())),
        value: Some(Bytes::from(value.to_string())),
        headers: vec![("source".to_owned(), Some(Bytes::from_static(b"tidegate demo")))],
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// 2026-11-22T10:00:00.000Z
    const NOW: i64 = 1_795_341_600_000;

    fn drawn(seed: u64) -> Vec<NewRecord> {
        let mut generator = Generator::new(seed);
        let draw = |_| [generator.order(NOW), generator.click(NOW), generator.customer(NOW)];
        (0..100).flat_map(draw).collect()
    }

    fn value(record: &NewRecord) -> Value {
        serde_json::from_slice(record.value.as_deref().unwrap()).unwrap()
    }

    #[test]
    fn one_seed_draws_the_same_and_another_others() {
        assert_eq!(drawn(1), drawn(1));
        assert_ne!(drawn(1), drawn(2));
    }

    #[test]
    fn every_record_is_json_with_a_key_and_orders_add_up() {
        let mut generator = Generator::new(7);
        for number in 1..=200 {
            let order = generator.order(NOW);
            let found = value(&order);
            assert_eq!(found["order_id"], format!("order-{number:06}"));
            assert_eq!(order.key.as_deref(), found["customer_id"].as_str().map(str::as_bytes));
            let items = found["items"].as_array().unwrap();
            let cents = |item: &Value| {
                item["price_cents"].as_u64().unwrap() * item["quantity"].as_u64().unwrap()
            };
            assert!(!items.is_empty());
            assert_eq!(items.iter().map(cents).sum::<u64>(), found["total_cents"]);
            assert_eq!(found["placed_at"], when::text(NOW));
            let click = generator.click(NOW);
            assert_eq!(click.key.as_deref(), value(&click)["session"].as_str().map(str::as_bytes));
        }
    }

    #[test]
    fn every_customer_comes_once_before_any_comes_again() {
        let mut generator = Generator::new(7);
        let keys = |count: u64, generator: &mut Generator| -> BTreeSet<Bytes> {
            (0..count).map(|_| generator.customer(NOW).key.unwrap()).collect()
        };
        let all = keys(CUSTOMERS, &mut generator);
        assert_eq!(all.len() as u64, CUSTOMERS);
        assert!(keys(200, &mut generator).is_subset(&all));
    }
}
