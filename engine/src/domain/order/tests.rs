use super::*;
use proptest::prelude::*;

fn event() -> impl Strategy<Value = OrderEvent> {
    prop_oneof![
        (0_u64..200).prop_map(|t| OrderEvent::PaymentStarted { until: UnixMs(t) }),
        Just(OrderEvent::PaymentApplied),
        (0_u64..200).prop_map(|t| OrderEvent::HeldAgain { until: UnixMs(t) }),
        Just(OrderEvent::Granted),
        (0_u64..200).prop_map(|t| OrderEvent::WindowEnded { now: UnixMs(t) }),
        Just(OrderEvent::Cancel),
        any::<bool>().prop_map(|restock| OrderEvent::RefundAsked { restock }),
        Just(OrderEvent::RefundDone),
    ]
}

proptest! {
    /// Whatever happens in whatever order, the moves told to the stock keep
    /// one unit in exactly the place that the state says it is in.
    #[test]
    fn stock_moves_follow_the_state(events in prop::collection::vec(event(), 0..40)) {
        let mut state = OrderState::PendingPayment { until: UnixMs(100), grace_used: false };
        let (mut held, mut sold, mut available, mut withdrawn) = (1_i32, 0_i32, 0_i32, 0_i32);
        for event in events {
            match state.step(event) {
                Err(_) | Ok(Step::Unchanged) => {}
                Ok(Step::Changed(next, moved)) => {
                    prop_assert_ne!(next, state);
                    match moved {
                        StockMove::None => {}
                        StockMove::Pay => { held -= 1; sold += 1 }
                        StockMove::Close => { held -= 1; available += 1 }
                        StockMove::Rehold => { available -= 1; held += 1 }
                        StockMove::Restock => { sold -= 1; available += 1 }
                        StockMove::Withdraw => { sold -= 1; withdrawn += 1 }
                    }
                    state = next;
                }
            }
            prop_assert_eq!(held, i32::from(state.is_held()));
            prop_assert_eq!(sold, i32::from(state.is_sold()));
            prop_assert_eq!(withdrawn, i32::from(state.is_withdrawn()));
            prop_assert_eq!(held + sold + available + withdrawn, 1);
            prop_assert!(available >= 0 && withdrawn >= 0);
        }
    }

    /// Saying the same thing twice changes nothing the second time, except
    /// a payment, which must never be applied twice, and what comes with one.
    #[test]
    fn repeats_change_nothing(events in prop::collection::vec(event(), 0..40)) {
        let mut state = OrderState::PendingPayment { until: UnixMs(100), grace_used: false };
        for event in events {
            if let Ok(Step::Changed(next, _)) = state.step(event) {
                match next.step(event) {
                    Ok(Step::Unchanged) => {}
                    Err(_) => {
                        let with_money = matches!(
                            event,
                            OrderEvent::PaymentApplied | OrderEvent::HeldAgain { .. }
                        );
                        prop_assert!(with_money);
                    }
                    Ok(Step::Changed(again, _)) => prop_assert!(false, "{:?} became {:?}", next, again),
                }
                state = next;
            }
        }
    }
}

#[test]
fn a_window_never_closes_early_and_never_a_paid_order() {
    let open = OrderState::PendingPayment {
        until: UnixMs(100),
        grace_used: false,
    };
    assert_eq!(
        open.step(OrderEvent::WindowEnded { now: UnixMs(99) }),
        Ok(Step::Unchanged)
    );
    assert_eq!(
        open.step(OrderEvent::WindowEnded { now: UnixMs(100) }),
        Ok(Step::Changed(
            OrderState::Closed {
                reason: CloseReason::Timeout
            },
            StockMove::Close
        ))
    );
    for paid in [OrderState::Paid, OrderState::Delivered] {
        assert_eq!(
            paid.step(OrderEvent::WindowEnded { now: UnixMs(500) }),
            Ok(Step::Unchanged)
        );
        assert!(paid.step(OrderEvent::Cancel).is_err());
    }
}

#[test]
fn versions_grow_under_any_epoch() {
    let v = Version::first(3);
    assert!(v.next(3) > v && v.next(4) > v.next(3) && v.next(1) > v);
    assert_eq!(v.next(7).epoch(), 7);
}
