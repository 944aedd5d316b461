//! Who there is: users and merchants, the same for every stream.
//!
//! Everything about one of them follows from the seed and the number: nothing is kept. Few users do much, most little (Zipf).
//! Each does most in the evening, by the sun at home: how many do something follows from the rates, who does from the hour.
//! A user lives near a city and now and then spends some days at another one; who is on the way there does nothing.

use compact_str::{CompactString, format_compact};
use millrace_wire::event::{Location, Merchant, User};
use millrace_wire::{Timestamp, topic};

use crate::generator::{by_hour, rounded};
use crate::{Random, Record, Reference, Zipf};

/// A city.
#[derive(Debug, Clone, Copy, PartialEq)]
struct City {
    name: &'static str,
    country: &'static str,
    currency: &'static str,
    at: Location,
}

const fn city(name: &'static str, country: &'static str, currency: &'static str, lat: f64, lon: f64) -> City {
    City { name, country, currency, at: Location { lat, lon } }
}

/// Where users live and merchants are.
const CITIES: [City; 16] = [
    city("London", "GB", "GBP", 51.51, -0.13),
    city("Manchester", "GB", "GBP", 53.48, -2.24),
    city("Paris", "FR", "EUR", 48.86, 2.35),
    city("Lyon", "FR", "EUR", 45.76, 4.84),
    city("Berlin", "DE", "EUR", 52.52, 13.40),
    city("Munich", "DE", "EUR", 48.14, 11.58),
    city("Madrid", "ES", "EUR", 40.42, -3.70),
    city("Rome", "IT", "EUR", 41.90, 12.50),
    city("Vienna", "AT", "EUR", 48.21, 16.37),
    city("Utrecht", "NL", "EUR", 52.09, 5.12),
    city("New York", "US", "USD", 40.75, -73.95),
    city("Chicago", "US", "USD", 41.85, -87.75),
    city("Austin", "US", "USD", 30.27, -97.74),
    city("Denver", "US", "USD", 39.74, -104.99),
    city("Atlanta", "US", "USD", 33.75, -84.39),
    city("Phoenix", "US", "USD", 33.45, -112.07),
];
/// Where they also go.
const FAR: [City; 4] = [
    city("Kyoto", "JP", "JPY", 35.01, 135.75),
    city("Nairobi", "KE", "KES", -1.29, 36.82),
    city("São Paulo", "BR", "BRL", -23.56, -46.64),
    city("Chiang Mai", "TH", "THB", 18.79, 98.99),
];
/// A home is within so many degrees of its city.
const SUBURBS: f64 = 0.04;
/// Segments with their spending, compared with a merchant's usual amount.
const SEGMENTS: [(&str, f64); 4] =
    [("thrifty", 0.6), ("ordinary", 1.0), ("ordinary", 1.0), ("affluent", 2.2)];
/// How unequal users are.
const EXPONENT: f64 = 0.5;
/// A stay, at home or elsewhere, ms.
const STAY_MS: i64 = 3 * 86_400_000;
/// How long one is on the way, ms: to the other end of the world at less than 900 km/h.
const WAY_MS: i64 = 86_400_000;
/// Share of stays that are not at home.
const AWAY: f64 = 0.04;
/// When users do most, o'clock where they live.
const EVENING: f64 = 19.0;
/// How many are asked before one who would rather sleep does something.
const ASKED: u32 = 8;
const MERCHANTS: u32 = 200;
/// What merchants sell, and their usual amount.
const CATEGORIES: [(&str, f64); 8] = [
    ("coffee", 4.5),
    ("bakery", 9.0),
    ("books", 14.0),
    ("groceries", 22.0),
    ("pharmacy", 28.0),
    ("clothing", 45.0),
    ("electronics", 80.0),
    ("travel", 160.0),
];
/// What the issuer thinks of them: most are harmless.
const RISKS: [(&str, f64); 8] = [
    ("low", 0.5),
    ("low", 0.5),
    ("low", 0.5),
    ("low", 0.5),
    ("low", 0.5),
    ("medium", 0.75),
    ("medium", 0.75),
    ("high", 1.0),
];

/// A user.
#[derive(Debug, Clone)]
pub struct Person {
    /// The key of what the user does.
    pub id: CompactString,
    /// Segment, and spending compared with a merchant's usual amount.
    pub segment: (&'static str, f64),
    home: City,
    /// Where the home is from the middle of its city, degrees.
    suburb: (f64, f64),
    /// When stays begin, ms after those of others.
    shift_ms: i64,
    trips: u64,
}

/// A merchant.
#[derive(Debug, Clone)]
pub struct Shop {
    /// Its id.
    pub id: CompactString,
    /// What it sells, and its usual amount.
    pub category: (&'static str, f64),
    /// What the issuer thinks of it, and the most that it suspects a payment.
    pub risk: (&'static str, f64),
    /// What it takes.
    pub currency: &'static str,
    city: City,
    number: usize,
}

/// Users and merchants.
#[derive(Debug, Clone)]
pub struct Population {
    seed: u64,
    size: u32,
    users: Zipf,
    merchants: Zipf,
}

impl Population {
    /// Of so many users.
    pub fn new(seed: u64, users: u32) -> Self {
        Self { seed, size: users, users: Zipf::new(users, EXPONENT), merchants: Zipf::new(MERCHANTS, 1.0) }
    }

    /// Somebody, the active ones more often, and those more often for whom it is evening: twelve hours from then each does less
    /// by the share `night`.
    pub fn somebody(&self, at: Timestamp, night: f64, random: &mut Random) -> Person {
        let mut person = self.person(self.users.pick(random));
        for _ in 0..ASKED {
            if random.unit() < by_hour(at, person.home.at.lon / 15.0, EVENING, night) {
                break;
            }
            person = self.person(self.users.pick(random));
        }
        person
    }

    /// The most active user.
    pub fn first(&self) -> Person {
        self.person(0)
    }

    /// A merchant, the popular ones more often.
    pub fn somewhere(&self, random: &mut Random) -> Shop {
        self.shop(self.merchants.pick(random))
    }

    fn person(&self, number: usize) -> Person {
        let mut habits = Random::new(self.seed, 2_000_000 + number as u64);
        Person {
            id: format_compact!("u-{number:05}"),
            segment: habits.one_of(&SEGMENTS, ("ordinary", 1.0)),
            home: habits.one_of(&CITIES, CITIES[0]),
            suburb: (habits.between(-SUBURBS, SUBURBS), habits.between(-SUBURBS, SUBURBS)),
            shift_ms: habits.between(0.0, STAY_MS as f64) as i64,
            trips: habits.bits(),
        }
    }

    fn shop(&self, number: usize) -> Shop {
        let mut habits = Random::new(self.seed, 3_000_000 + number as u64);
        let city = habits.one_of(&CITIES, CITIES[0]);
        Shop {
            id: format_compact!("m-{number:03}"),
            category: CATEGORIES.get(number % CATEGORIES.len()).copied().unwrap_or(("other", 20.0)),
            risk: habits.one_of(&RISKS, ("low", 0.5)),
            currency: city.currency,
            city,
            number,
        }
    }

    /// Records of `users`.
    pub fn users(&self) -> Vec<Reference> {
        let user = |number| {
            let person = self.person(number);
            let user = User {
                user_id: person.id.clone(),
                home_country: CompactString::const_new(person.home.country),
                home_location: Some(person.home()),
                segment: CompactString::const_new(person.segment.0),
            };
            let value = serde_json::to_vec(&user).ok()?;
            let record = Record { key: person.id.as_bytes().to_vec(), value };
            Some(Reference { topic: topic::USERS, record })
        };
        (0..self.size as usize).filter_map(user).collect()
    }

    /// Records of `merchants`.
    pub fn merchants(&self) -> Vec<Reference> {
        let merchant = |number| {
            let shop = self.shop(number);
            let merchant = Merchant {
                merchant_id: shop.id.clone(),
                name: format_compact!("{} {} {}", shop.city.name, shop.category.0, shop.number),
                category: CompactString::const_new(shop.category.0),
                country: CompactString::const_new(shop.city.country),
                risk_class: CompactString::const_new(shop.risk.0),
            };
            let value = serde_json::to_vec(&merchant).ok()?;
            let record = Record { key: shop.id.as_bytes().to_vec(), value };
            Some(Reference { topic: topic::MERCHANTS, record })
        };
        (0..MERCHANTS as usize).filter_map(merchant).collect()
    }
}

impl Person {
    /// Where the user is; `None` on the way.
    pub fn place(&self, at: Timestamp) -> Option<Location> {
        let time = at.millis() + self.shift_ms;
        let stay = time.div_euclid(STAY_MS);
        let (city, before) = (self.stay(stay), self.stay(stay - 1));
        (city == before || time.rem_euclid(STAY_MS) >= WAY_MS).then(|| self.near(city))
    }

    /// Where the user lives.
    pub fn home(&self) -> Location {
        self.near(self.home)
    }

    /// At the other end of the world.
    pub fn far(&self) -> Location {
        self.near(FAR[0])
    }

    fn stay(&self, number: i64) -> City {
        let mut trip = Random::new(self.trips, number.unsigned_abs());
        if trip.unit() >= AWAY {
            self.home
        } else if trip.unit() < 0.3 {
            trip.one_of(&FAR, self.home)
        } else {
            trip.one_of(&CITIES, self.home)
        }
    }

    fn near(&self, city: City) -> Location {
        let (lat, lon) = (city.at.lat + self.suburb.0, city.at.lon + self.suburb.1);
        Location { lat: rounded(lat), lon: rounded(lon) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    const START: i64 = 1_717_200_000_000;
    const HOUR: i64 = 3_600_000;

    #[test]
    fn reference_data_name_every_user_and_merchant_once() {
        let population = Population::new(42, 1_000);
        let users: Vec<User> =
            population.users().iter().map(|r| serde_json::from_slice(&r.record.value).unwrap()).collect();
        let ids: BTreeSet<_> = users.iter().map(|user| &user.user_id).collect();
        let countries: BTreeSet<_> = users.iter().map(|user| user.home_country.as_str()).collect();
        assert_eq!((users.len(), ids.len(), countries.len()), (1_000, 1_000, 8));
        let merchants: Vec<Merchant> =
            population.merchants().iter().map(|r| serde_json::from_slice(&r.record.value).unwrap()).collect();
        let high = merchants.iter().filter(|m| m.risk_class == "high").count();
        assert!(merchants.len() == 200 && (5..60).contains(&high), "{high}");
        for reference in population.users().iter().take(10).chain(population.merchants().iter().take(10)) {
            let value: serde_json::Value = serde_json::from_slice(&reference.record.value).unwrap();
            let id = if reference.topic == "users" { "userId" } else { "merchantId" };
            assert_eq!(value[id].as_str().unwrap().as_bytes(), reference.record.key);
        }
        assert_eq!(population.users(), Population::new(42, 1_000).users());
        assert_ne!(population.users(), Population::new(43, 1_000).users());
    }

    #[test]
    fn some_travel_and_nobody_is_elsewhere_within_a_day() {
        let population = Population::new(42, 2_000);
        let (mut away, mut all) = (0, 0);
        let mut last: BTreeMap<usize, (i64, Location)> = BTreeMap::new();
        for hour in 0..24 * 14 {
            for number in 0..500 {
                let person = population.person(number);
                let at = START + hour * HOUR;
                let Some(place) = person.place(Timestamp(at)) else { continue };
                all += 1;
                away += u32::from(place != person.home());
                if let Some((before, elsewhere)) = last.insert(number, (at, place)) {
                    assert!(elsewhere == place || at - before >= WAY_MS, "{number} at {at}");
                }
            }
        }
        let share = f64::from(away) / f64::from(all);
        assert!((0.01..0.06).contains(&share), "{share}");
    }

    #[test]
    fn who_does_something_follows_the_sun() {
        let (population, mut random) = (Population::new(42, 10_000), Random::new(42, 1));
        let mut americans = |hour: i64| {
            let all =
                (0..20_000).map(|_| population.somebody(Timestamp(START + hour * HOUR), 0.7, &mut random));
            all.filter(|person| person.home.country == "US").count() as f64 / 20_000.0
        };
        let (night, morning) = (americans(1), americans(11));
        // 6 of 16 cities, if it were the same hour everywhere.
        assert!(night > 0.42 && morning < 0.33, "1 h UTC: {night}, 11 h: {morning}");
    }
}
