//! The messages of the gRPC health checking protocol: probes ask with them, the `health` applet answers.

/// The path of the one call that probes make.
pub const CHECK: &str = "/grpc.health.v1.Health/Check";

/// `grpc.health.v1.HealthCheckRequest`
#[derive(Clone, PartialEq, prost::Message)]
pub struct HealthCheckRequest {
    /// The service asked about; empty for the server as a whole.
    #[prost(string, tag = "1")]
    pub service: String,
}

/// `grpc.health.v1.HealthCheckResponse`
#[derive(Clone, PartialEq, prost::Message)]
pub struct HealthCheckResponse {
    /// How it is.
    #[prost(enumeration = "ServingStatus", tag = "1")]
    pub status: i32,
}

/// `grpc.health.v1.HealthCheckResponse.ServingStatus`
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum ServingStatus {
    /// It does not say.
    Unknown = 0,
    /// All is well.
    Serving = 1,
    /// It is not.
    NotServing = 2,
    /// Nobody here knows that service.
    ServiceUnknown = 3,
}

impl ServingStatus {
    /// All of them.
    pub const ALL: [ServingStatus; 4] =
        [ServingStatus::Unknown, ServingStatus::Serving, ServingStatus::NotServing, ServingStatus::ServiceUnknown];

    /// Its name in the protocol.
    pub fn word(self) -> &'static str {
        match self {
            ServingStatus::Unknown => "UNKNOWN",
            ServingStatus::Serving => "SERVING",
            ServingStatus::NotServing => "NOT_SERVING",
            ServingStatus::ServiceUnknown => "SERVICE_UNKNOWN",
        }
    }
}
