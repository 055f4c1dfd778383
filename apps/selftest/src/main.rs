#![cfg_attr(exo_guest, no_std, no_main)]
libos::app!(m);
#[cfg(exo_guest)]
fn m(e: libos::runtime::Environment) -> u64 { let m = selftest::child::Maker::new(&e).unwrap(); 
 extern "C" fn hlt(_: u64) -> ! { unsafe { core::arch::asm!("hlt") }; loop {} }
 libos::println!("{:?}", m.try_out(hlt, 0, u64::MAX/2)); m.close().unwrap(); 0 }
