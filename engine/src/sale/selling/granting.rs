//! What paid orders grant: devices ask for licences, and anybody may see what there is.

use tokio::time::Instant;

use super::super::answer::Licensing;
use super::super::desk::Act;
use super::super::facts::{self, FactError};
use super::Selling;
use super::asking::Wished;
use crate::admission::{Asker, Shed, Standing};
use crate::domain::entitlement::{self, Entitlement};
use crate::domain::ids::{DeviceId, EntitlementId, OrderId};
use crate::domain::order::Order;

impl Selling {
    /// A device wants a licence under an entitlement of this order. `standing` tells
    /// afterwards how the asker stands with the limit.
    pub async fn license(
        &self,
        order: OrderId,
        entitlement: EntitlementId,
        device: DeviceId,
        asker: &Asker<'_>,
        standing: &mut Standing,
    ) -> Result<Licensing, Shed> {
        self.clear_license(asker, standing)?;
        let act = |reply| Act::License {
            entitlement,
            device,
            reply,
        };
        Ok(match self.wish(order, act).await {
            Wished::Heard(said) => said,
            Wished::NoDesk => Licensing::Missing,
            Wished::Silence => Licensing::Unknown,
        })
    }

    /// Whether this asker may have another licence written now.
    fn clear_license(&self, asker: &Asker<'_>, standing: &mut Standing) -> Result<(), Shed> {
        let now = Instant::now().saturating_duration_since(self.started);
        let (left, cleared) = self.limits.license(asker, now);
        *standing = left;
        cleared.map_err(|shed| self.counted(shed))
    }

    /// What an order granted, by the ids that it alone can have given.
    pub fn entitlements_of(&self, order: &Order) -> Result<Vec<Entitlement>, FactError> {
        let (ledger, group) = (&self.tools.ledger, order.sale.as_bytes());
        let mut granted = Vec::new();
        for item in &order.items {
            let id = entitlement::id_of(&order.id, &item.sku);
            let found = ledger.entity(group, facts::ENTITLEMENT, id.as_bytes())?;
            if let Some(snapshot) = found {
                granted.push(facts::entitlement_of(&snapshot)?);
            }
        }
        Ok(granted)
    }
}
