//! Capabilities: made and dropped, given to another environment and taken back.

use exo_abi::boot::SELF;
use exo_abi::{Error, Handle, Rights, Word};
use libos::sys;

use crate::environments::Setting;

pub(crate) fn measure(setting: &Setting<'_>) -> Result<(), Error> {
    let derive = || Handle::from_word(sys::cap_derive(SELF, Rights::GRANT, 0, 0)?);
    setting.counter.measure("derive-drop", || sys::cap_drop(derive()?).map(drop))?;
    let known = derive()?;
    let other = setting.maker.bare()?;
    setting.counter.measure("grant-revoke", || {
        sys::cap_grant(known, other.env)?;
        // All that was derived from it: the other's, which is one.
        sys::cap_revoke(known).map(drop)
    })?;
    other.destroy()?;
    sys::cap_drop(known).map(drop)
}
