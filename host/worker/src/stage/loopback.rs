//! Brings `lo` up in a new network namespace, by one rtnetlink message (rtnetlink(7), RTM_NEWLINK).

use nix::{
    net::if_::if_nametoindex,
    sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket},
    unistd::{read, write},
};

const RTM_NEWLINK: u16 = 16;
const NLM_F_REQUEST_ACK: u16 = 1 | 4;
const IFF_UP: u32 = 1;

/// Without this, tests that talk to themselves over 127.0.0.1 would fail in the sandbox.
pub(crate) fn up() -> Result<(), String> {
    let context =
        |what: &str, error: nix::Error| format!("cannot bring up loopback in the sandbox: {what}: {error}");
    let index = if_nametoindex("lo").map_err(|error| context("index", error))?;
    let link =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)
            .map_err(|error| context("socket", error))?;
    let mut message = Vec::with_capacity(32);
    // struct nlmsghdr: length, type, flags, sequence, port.
    message.extend(32_u32.to_ne_bytes());
    message.extend(RTM_NEWLINK.to_ne_bytes());
    message.extend(NLM_F_REQUEST_ACK.to_ne_bytes());
    message.extend([0; 8]);
    // struct ifinfomsg: family, padding, type, index, flags, change mask.
    message.extend([0; 4]);
    message.extend(index.to_ne_bytes());
    message.extend(IFF_UP.to_ne_bytes());
    message.extend(IFF_UP.to_ne_bytes());
    write(&link, &message).map_err(|error| context("send", error))?;
    // The answer is an nlmsghdr and a struct nlmsgerr, whose first field is 0 or a negative errno.
    let mut answer = [0; 256];
    let count = read(&link, &mut answer).map_err(|error| context("receive", error))?;
    match answer
        .get(16..20)
        .filter(|_| count >= 20)
        .and_then(|bytes| bytes.try_into().ok())
        .map(i32::from_ne_bytes)
    {
        Some(0) => Ok(()),
        Some(errno) => Err(context("refused", nix::Error::from_raw(-errno))),
        None => Err("cannot bring up loopback in the sandbox: short answer".to_owned()),
    }
}
