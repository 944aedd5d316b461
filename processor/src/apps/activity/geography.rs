//! How far two places are from each other, and in which country a place is.

use std::sync::LazyLock;

use country_boundaries::{BOUNDARIES_ODBL_180X90, CountryBoundaries, LatLon};
use millrace_wire::event::Location;

/// Mean radius of the earth (IUGG), km.
const RADIUS_KM: f64 = 6_371.008_8;

/// Length of the great circle between two places, km, by the haversine formula (R. W. Sinnott, "Virtues of the Haversine",
/// Sky and Telescope 68, 1984), which is exact for places that are near each other too.
pub(super) fn distance_km(a: Location, b: Location) -> f64 {
    let half = |from: f64, to: f64| ((to - from).to_radians() / 2.0).sin().powi(2);
    let across = a.lat.to_radians().cos() * b.lat.to_radians().cos() * half(a.lon, b.lon);
    let h = (half(a.lat, b.lat) + across).clamp(0.0, 1.0);
    2.0 * RADIUS_KM * h.sqrt().asin()
}

/// Borders on land, from OpenStreetMap (ODbL), as they come with the crate; a test reads them.
static BORDERS: LazyLock<Option<CountryBoundaries>> =
    LazyLock::new(|| CountryBoundaries::from_reader(BOUNDARIES_ODBL_180X90).ok());

/// The country of a place: ISO 3166-1 alpha-2. None at sea.
pub(super) fn country(place: Location) -> Option<&'static str> {
    let at = LatLon::new(place.lat, place.lon).ok()?;
    // Beside the country there are its parts: `US-TX`.
    BORDERS.as_ref()?.ids(at).into_iter().find(|id| id.len() == 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARIS: Location = Location { lat: 48.8566, lon: 2.3522 };
    const NEW_YORK: Location = Location { lat: 40.7128, lon: -74.006 };

    #[test]
    fn distances_are_those_of_the_great_circle() {
        for (a, b, km) in [
            (PARIS, NEW_YORK, 5_837.0),
            (PARIS, PARIS, 0.0),
            (Location { lat: 0.0, lon: 179.0 }, Location { lat: 0.0, lon: -179.0 }, 222.4),
            (Location { lat: 90.0, lon: 0.0 }, Location { lat: -90.0, lon: 77.0 }, 20_015.1),
            (Location { lat: 0.0, lon: 0.0 }, Location { lat: 0.0, lon: 180.0 }, 20_015.1),
        ] {
            let found = distance_km(a, b);
            assert!((found - km).abs() < 0.5, "{a:?} to {b:?}: {found}");
            assert!((found - distance_km(b, a)).abs() < 1e-9);
        }
    }

    #[test]
    fn a_place_is_in_its_country() {
        for (lat, lon, expected) in [
            (PARIS.lat, PARIS.lon, Some("FR")),
            (NEW_YORK.lat, NEW_YORK.lon, Some("US")),
            (33.0, -97.0, Some("US")),
            (48.57, 7.75, Some("FR")), // Strasbourg, 3 km from
            (48.57, 7.82, Some("DE")), // Kehl
            (-90.0, 180.0, None),
            (30.0, -40.0, None),
        ] {
            let found = country(Location { lat, lon });
            let found = found.filter(|id| *id != "AQ");
            assert_eq!(found, expected, "{lat}, {lon}");
        }
    }
}
