//! What is wanted of the pods' network beyond the pods, and what is in force.

use cri_proto::node::{
    GetNetworkResponse, LeaseAddressesRequest, LeaseAddressesResponse, SetNetworkRequest, SetNetworkResponse,
};
use tonic::Status;

use crate::cri::Services;

pub async fn set(_services: &Services, _request: SetNetworkRequest) -> Result<SetNetworkResponse, Status> {
    Err(Status::unimplemented("links are not run yet"))
}

pub async fn get(_services: &Services) -> Result<GetNetworkResponse, Status> {
    Err(Status::unimplemented("links are not run yet"))
}

pub async fn lease(_services: &Services, _request: LeaseAddressesRequest) -> Result<LeaseAddressesResponse, Status> {
    Err(Status::unimplemented("addresses are not kept yet"))
}
