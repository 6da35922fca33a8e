//! Letters that were replayed, for a store that is put back to a day before.
//!
//! The mark passed a refused record long before its letter was replayed. A backup from
//! between the two has the mark and not the row, and the stream would never come back to
//! it. So a letter that was replayed stays in the ledger, out of everybody's sight, with
//! the ledger's tip of that moment: no backup without the row has a mark beyond it. When
//! the store stands there or before, row and event are put again, which changes nothing
//! where they are. The letter goes when a store with such a mark would be refilled.
//!
//! A crash before the letter is marked leaves it for another replay, and putting again
//! marks nothing.

use floodgate_ledger::{DeadLetter, Seq};
use prost::Message as _;

use super::letters::{LetterError, Letters, durably, text};
use super::note::{Letter, Note, read, unreadable};
use super::store::Mark;

impl Letters {
    /// The store has them by now, and lists have them no more. Durable when it returns.
    pub(super) fn lay_by(&self, seqs: &[u64]) -> Result<(), LetterError> {
        let tip = self.ledger.tip().seq;
        let mut letters = Vec::with_capacity(seqs.len());
        for seq in seqs {
            let Some(found) = self.found(*seq)? else {
                continue;
            };
            let note = Note::decode(&found.note[..]).map_err(|e| unreadable(*seq, &e))?;
            let note = Note {
                taken_at: Some(tip.0),
                ..note
            };
            letters.push(DeadLetter {
                seq: Seq(*seq),
                note: note.encode_to_vec().into(),
            });
        }
        self.write_notes(letters)?;
        let mut known = self.known.lock();
        known.retain(|seq, _| !seqs.contains(seq));
        self.show(known.len());
        self.taken.lock().extend(seqs.iter().map(|seq| (*seq, tip)));
        Ok(())
    }

    /// Whether this record has a dead letter, or had one and may need it again.
    pub(super) fn had(&self, seq: u64) -> bool {
        self.has(seq) || self.taken.lock().contains_key(&seq)
    }

    pub(super) fn n_taken(&self) -> usize {
        self.taken.lock().len()
    }

    /// For a store that stands at `mark`: whatever was replayed after the store may have
    /// been copied is put again, so many at a time. What it refuses now is a letter as
    /// before. True: something was put. Blocks.
    pub(super) fn put_again(&self, mark: Option<&Mark>, n_max: usize) -> Result<bool, LetterError> {
        let _turn = self.turn.lock();
        let stands = mark.map_or(Seq(0), |mark| mark.seq);
        let seqs: Vec<u64> = {
            let taken = self.taken.lock();
            let late = taken.iter().filter(|(_, tip)| **tip >= stands);
            late.map(|(seq, _)| *seq).collect()
        };
        if seqs.is_empty() {
            return Ok(false);
        }
        tracing::info!(
            n = seqs.len(),
            mark = stands.0,
            "dead letters that were replayed are put again: the order store may be a copy from before"
        );
        for seqs in seqs.chunks(n_max.max(1)) {
            let mut letters = Vec::with_capacity(seqs.len());
            for seq in seqs {
                letters.extend(self.found(*seq)?.map(|found| read(&found)).transpose()?);
            }
            if self.put(&self.batch_of(&letters)?)?.is_some() {
                self.put_singly(&letters)?;
            }
        }
        Ok(true)
    }

    fn put_singly(&self, letters: &[Letter]) -> Result<(), LetterError> {
        for letter in letters {
            let batch = self.batch_of(std::slice::from_ref(letter))?;
            if let Some(why) = self.put(&batch)? {
                tracing::error!(
                    seq = letter.seq,
                    kind = letter.row.kind().name(),
                    id = %letter.row.id(),
                    why,
                    "the order store refuses what was replayed once; it is a dead letter again"
                );
                self.write(&[(&letter.row, why)])?;
            }
        }
        Ok(())
    }

    /// Letters that no store can need any more: one with a mark so old is refilled.
    pub(super) fn let_go(&self) -> Result<(), LetterError> {
        if self.taken.lock().is_empty() {
            return Ok(());
        }
        let _turn = self.turn.lock();
        let floor = self.ledger.reader().identity()?.floor.seq;
        let gone: Vec<Seq> = {
            let taken = self.taken.lock();
            let old = taken.iter().filter(|(_, tip)| **tip < floor);
            old.map(|(seq, _)| Seq(*seq)).collect()
        };
        if gone.is_empty() {
            return Ok(());
        }
        durably(async {
            let receipt = self.ledger.unbury(&gone).await.map_err(text)?;
            receipt.await.map_err(text)
        })?;
        self.taken
            .lock()
            .retain(|seq, _| !gone.contains(&Seq(*seq)));
        Ok(())
    }
}
