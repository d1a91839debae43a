//! `hone service reserve`: keeping a service for an application at a price by the hour. Never here: what it came to (`invoice`).

use clap::Args;
use hone_protocol::request::Request;

use super::context::{Context, answer};
use super::service::{micros, show};
use crate::print::Outcome;

/// Keep a service for an application, which pays by the hour while the service is on; or end that.
///
/// A reserved service stays loaded, as a pinned one does. Its time becomes rows of the ledger every hour and at midnight.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone service reserve desk shop --hour 1.20\n  hone service reserve desk --end")]
pub(super) struct Reserve {
    /// Name of the service.
    name: String,
    /// The application that pays.
    #[arg(required_unless_present = "end")]
    application: Option<String>,
    /// Price of an hour.
    #[arg(long, value_name = "PRICE", value_parser = micros, required_unless_present = "end")]
    hour: Option<u64>,
    /// End the reservation.
    #[arg(long, conflicts_with_all = ["application", "hour"])]
    end: bool,
}

impl Reserve {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let request =
            Request::Reserve { service: self.name, application: self.application, hour_micros: self.hour.unwrap_or(0) };
        let view = answer!(context.change(&mut context.link()?, "reserve", request)?, Service);
        show(context, &view)
    }
}
