//! Settings of the process. Defaults stand here; environment variables and flags override them.

use clap::{Args, Parser};
use millrace_service::{KafkaArgs, ServiceArgs};
use millrace_wire::control::{MAX_RATE, MAX_SECONDS, ScenarioSettings};
use millrace_wire::scenario::Scenario;

use crate::order::Disorder;

/// Generates Millrace's raw streams.
#[derive(Parser, Clone)]
#[command(name = "millrace-producers", version)]
pub struct Config {
    /// Kafka.
    #[command(flatten)]
    pub kafka: KafkaArgs,
    /// Logs and interfaces.
    #[command(flatten)]
    pub service: ServiceArgs,
    /// What is generated.
    #[command(flatten)]
    pub generate: GenerateArgs,
}

/// What is generated.
#[derive(Args, Clone, Debug)]
pub struct GenerateArgs {
    /// The same seed gives the same events for the same event times.
    #[arg(long, env = "MILLRACE_SEED", default_value_t = 42)]
    pub seed: u64,
    /// Events/s of `iot-sensors` until a command in `millrace.control` says otherwise, 0 to 50000.
    #[arg(long, env = "MILLRACE_RATE_IOT_SENSORS", default_value_t = 100.0, value_parser = rate)]
    pub rate_iot_sensors: f64,
    /// Events/s of `transactions` until a command says otherwise, 0 to 50000.
    #[arg(long, env = "MILLRACE_RATE_TRANSACTIONS", default_value_t = 10.0, value_parser = rate)]
    pub rate_transactions: f64,
    /// Events/s of `orders` until a command says otherwise, 0 to 50000.
    #[arg(long, env = "MILLRACE_RATE_ORDERS", default_value_t = 10.0, value_parser = rate)]
    pub rate_orders: f64,
    /// Events/s of `user-events` until a command says otherwise, 0 to 50000.
    #[arg(long, env = "MILLRACE_RATE_USER_EVENTS", default_value_t = 10.0, value_parser = rate)]
    pub rate_user_events: f64,
    /// Readings/s of `system-metrics`, of the machine and each process of the platform by turns, until a command says otherwise,
    /// 0 to 50000.
    #[arg(long, env = "MILLRACE_RATE_SYSTEM_METRICS", default_value_t = 10.0, value_parser = rate)]
    pub rate_system_metrics: f64,
    /// Number of users, who visit the shop and pay by card.
    #[arg(long, env = "MILLRACE_USERS", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub users: u32,
    /// Number of customers who order, and of bank accounts.
    #[arg(long, env = "MILLRACE_CUSTOMERS", default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub customers: u32,
    /// Number of sensors.
    #[arg(long, env = "MILLRACE_SENSORS", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub sensors: u32,
    /// Largest delay of events that are out of order, milliseconds.
    #[arg(long, env = "MILLRACE_OUT_OF_ORDER_MS", default_value_t = 2_000)]
    pub out_of_order_ms: u32,
    /// Share of events that are out of order, 0 to 1.
    #[arg(long, env = "MILLRACE_OUT_OF_ORDER_SHARE", default_value_t = 0.2, value_parser = share)]
    pub out_of_order_share: f64,
    /// Share of events that are late by minutes, 0 to 1.
    #[arg(long, env = "MILLRACE_LATE_SHARE", default_value_t = 0.001, value_parser = share)]
    pub late_share: f64,
}

impl GenerateArgs {
    /// How event times are disordered.
    pub fn disorder(&self) -> Disorder {
        Disorder {
            share: self.out_of_order_share,
            bound_ms: f64::from(self.out_of_order_ms),
            late_share: self.late_share,
        }
    }
}

/// Whether a stream can be generated at this rate.
///
/// # Errors
/// Says why not.
pub fn check_rate(rate: f64) -> Result<f64, String> {
    if (0.0..=MAX_RATE).contains(&rate) {
        Ok(rate)
    } else {
        Err(format!("rate {rate} is outside of 0 to {MAX_RATE} events/s"))
    }
}

/// Whether this can be provoked in a stream.
///
/// # Errors
/// Says why not.
pub fn check_scenario(stream: &str, settings: &ScenarioSettings) -> Result<Scenario, String> {
    let ScenarioSettings { name, seconds } = *settings;
    if !name.fits(stream) {
        return Err(format!("{} can't be provoked in {stream}", name.name()));
    }
    if !(1..=MAX_SECONDS).contains(&seconds) {
        return Err(format!("{seconds} s is outside of 1 to {MAX_SECONDS} s"));
    }
    Ok(name)
}

fn rate(text: &str) -> Result<f64, String> {
    check_rate(text.parse().map_err(|_| "not a number".to_owned())?)
}

fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err("a share is 0 to 1".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_outside_of_the_limits_are_refused() {
        for refused in [-0.1, 50_000.1, f64::NAN, f64::INFINITY] {
            assert!(check_rate(refused).is_err(), "{refused}");
        }
        assert_eq!(check_rate(50_000.0), Ok(50_000.0));
        assert_eq!(check_rate(-1.0), Err("rate -1 is outside of 0 to 50000 events/s".to_owned()));
    }

    #[test]
    fn defaults_and_limits_of_the_command_line() {
        let config = Config::try_parse_from(["p", "--rate-iot-sensors", "7.5"]).unwrap();
        assert_eq!((config.generate.rate_iot_sensors, config.generate.sensors), (7.5, 200));
        let rates = (config.generate.rate_transactions, config.generate.rate_orders);
        assert_eq!((rates, config.generate.customers), ((10.0, 10.0), 50_000));
        let rates = (config.generate.rate_user_events, config.generate.rate_system_metrics);
        assert_eq!((rates, config.generate.users), ((10.0, 10.0), 10_000));
        assert!(Config::try_parse_from(["p", "--late-share", "2"]).is_err());
        assert!(Config::try_parse_from(["p", "--rate-iot-sensors", "50001"]).is_err());
    }
}
