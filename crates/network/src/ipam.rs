//! Address management: which subnet a network gets and which addresses of it are taken.
//!
//! Like Docker's, the lowest free address is handed out. An address is given back only when its link is gone, so that two
//! links never answer for one address.

use crate::model::IpamConfig;
use crate::{AddressPool, Error, Result};
use ipnet::Ipv4Net;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// The addresses of one subnet.
#[derive(Clone, Debug)]
pub(crate) struct Pool {
    subnet: Ipv4Net,
    range: Ipv4Net,
    /// Taken addresses as bits: address / 64 to a word. Words without a bit are not kept, so a /8 costs nothing.
    words: BTreeMap<u32, u64>,
}

impl Pool {
    /// The pool of a network; network and broadcast address, gateway and auxiliary addresses are never handed out.
    pub(crate) fn new(config: &IpamConfig) -> Pool {
        let subnet = config.subnet;
        let mut pool = Pool { subnet, range: config.ip_range.unwrap_or(subnet), words: BTreeMap::new() };
        if subnet.prefix_len() < 31 {
            pool.mark(subnet.network());
            pool.mark(subnet.broadcast());
        }
        for address in config.gateway.iter().chain(config.auxiliary.values()) {
            pool.mark(*address);
        }
        pool
    }

    /// Takes the lowest free address.
    pub(crate) fn take(&mut self) -> Option<Ipv4Addr> {
        let last = u32::from(self.range.broadcast());
        let mut address = u32::from(self.range.network());
        loop {
            let word = self.words.get(&(address / 64)).copied().unwrap_or(0);
            let free = (!word & (u64::MAX << (address % 64))).trailing_zeros();
            if free < 64 {
                let found = address / 64 * 64 + free;
                if found > last {
                    return None;
                }
                self.mark(found.into());
                return Some(found.into());
            }
            address = (address / 64).checked_add(1)?.checked_mul(64).filter(|next| *next <= last)?;
        }
    }

    /// Takes this address; false if it is taken.
    pub(crate) fn take_fixed(&mut self, address: Ipv4Addr) -> bool {
        let free = !self.is_taken(address);
        self.mark(address);
        free
    }

    /// Gives an address back.
    pub(crate) fn release(&mut self, address: Ipv4Addr) {
        let bits = u32::from(address);
        if let Some(word) = self.words.get_mut(&(bits / 64)) {
            *word &= !(1 << (bits % 64));
            if *word == 0 {
                self.words.remove(&(bits / 64));
            }
        }
    }

    pub(crate) fn contains(&self, address: Ipv4Addr) -> bool {
        self.subnet.contains(&address)
    }

    fn is_taken(&self, address: Ipv4Addr) -> bool {
        let bits = u32::from(address);
        self.words.get(&(bits / 64)).is_some_and(|word| word & (1 << (bits % 64)) != 0)
    }

    fn mark(&mut self, address: Ipv4Addr) {
        let bits = u32::from(address);
        *self.words.entry(bits / 64).or_default() |= 1 << (bits % 64);
    }
}

/// Docker's default pools, in its order.
pub(crate) fn default_pools() -> Vec<AddressPool> {
    let pool = |a, b, len, size| AddressPool { base: Ipv4Net::new_assert(Ipv4Addr::new(a, b, 0, 0), len), size };
    vec![
        pool(172, 17, 16, 16),
        pool(172, 18, 16, 16),
        pool(172, 19, 16, 16),
        pool(172, 20, 14, 16),
        pool(172, 24, 14, 16),
        pool(172, 28, 14, 16),
        pool(192, 168, 16, 20),
    ]
}

/// The first subnet of the pools that overlaps nothing taken.
pub(crate) fn choose_subnet(pools: &[AddressPool], taken: &[Ipv4Net]) -> Result<Ipv4Net> {
    pools
        .iter()
        .filter_map(|pool| pool.base.subnets(pool.size).ok())
        .flatten()
        .find(|subnet| !taken.iter().any(|other| overlaps(*subnet, *other)))
        .ok_or(Error::PoolsExhausted)
}

/// Whether two subnets have an address in common.
pub(crate) fn overlaps(a: Ipv4Net, b: Ipv4Net) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(subnet: &str, range: Option<&str>) -> Pool {
        let subnet: Ipv4Net = subnet.parse().unwrap();
        Pool::new(&IpamConfig {
            subnet,
            ip_range: range.map(|range| range.parse().unwrap()),
            gateway: subnet.hosts().next(),
            auxiliary: BTreeMap::new(),
        })
    }

    #[test]
    fn the_lowest_free_address_is_next() {
        let mut pool = pool("172.17.0.0/16", None);
        let taken: Vec<_> = (0..100).map(|_| pool.take().unwrap()).collect();
        assert_eq!(taken[0], Ipv4Addr::new(172, 17, 0, 2));
        assert_eq!(taken[99], Ipv4Addr::new(172, 17, 0, 101));
        pool.release(taken[40]);
        assert_eq!(pool.take(), Some(taken[40]));
        assert_eq!(pool.take(), Some(Ipv4Addr::new(172, 17, 0, 102)));
    }

    #[test]
    fn small_and_limited_pools_run_out() {
        let mut small = pool("10.0.0.0/29", None);
        assert_eq!((0..9).filter_map(|_| small.take()).count(), 5);
        let mut limited = pool("10.0.0.0/16", Some("10.0.3.128/25"));
        assert_eq!(limited.take(), Some(Ipv4Addr::new(10, 0, 3, 128)));
        assert_eq!((0..300).filter_map(|_| limited.take()).count(), 127);
        let mut last = pool("255.255.255.0/24", None);
        assert_eq!((0..300).filter_map(|_| last.take()).count(), 253);
    }

    #[test]
    fn fixed_addresses() {
        let mut pool = pool("10.0.0.0/8", None);
        let address = Ipv4Addr::new(10, 200, 3, 4);
        assert!(pool.take_fixed(address));
        assert!(!pool.take_fixed(address));
        assert!(!pool.take_fixed(Ipv4Addr::new(10, 0, 0, 1)));
        pool.release(address);
        assert!(pool.take_fixed(address));
        assert!(!pool.contains(Ipv4Addr::new(11, 0, 0, 1)));
    }

    #[test]
    fn subnets_avoid_what_is_taken() {
        let net = |text: &str| text.parse::<Ipv4Net>().unwrap();
        assert_eq!(choose_subnet(&default_pools(), &[]).unwrap(), net("172.17.0.0/16"));
        assert_eq!(choose_subnet(&default_pools(), &[net("172.17.3.0/24")]).unwrap(), net("172.18.0.0/16"));
        assert_eq!(choose_subnet(&default_pools(), &[net("172.16.0.0/12")]).unwrap(), net("192.168.0.0/20"));
        assert!(choose_subnet(&default_pools(), &[net("172.16.0.0/12"), net("192.168.0.0/16")]).is_err());
    }
}
