//! Tests against the kernel, each on a "host" of its own: a network namespace that nothing else is in. They need root.

#[cfg(test)]
mod firewall;
#[cfg(test)]
mod lifecycle;
#[cfg(test)]
mod reach;
#[cfg(test)]
mod speed;
#[cfg(test)]
mod support;
