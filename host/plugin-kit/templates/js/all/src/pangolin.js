// Small helpers around the contract. Yours to change.

import { emit, panicked } from 'pangolin:base/log@1.0.0';

/** A line for the operator. `level` is debug, info, warn or error. */
export const log = (level, message) => emit(level, message);

/** Ends the call with a fault: throw what this returns. `code` is kebab-case. */
export const fault = (code, message) => ({ code, message, retryable: false, detail: undefined });

/** What the host refused, as a fault: `catch (error) { throw refused(error); }` */
export function refused(error) {
  const { capability, subject, reason } = error.payload ?? {};
  if (reason === undefined) throw error;
  return fault('refused', `${capability} ${JSON.stringify(subject)}: ${reason}`);
}

/**
 * Tells the host the text of an unexpected exception before the call ends with it. Without this the host only sees
 * a trap: there is no console in a plugin.
 */
export const guarded = (call) =>
  function (...args) {
    try {
      return call.apply(this, args);
    } catch (error) {
      if (error instanceof Error && error.payload === undefined) panicked(`${error}\n${error.stack ?? ''}`);
      throw error;
    }
  };

/**
 * Gives a handle of the host back. A call may hold 4,096 at once (16,384 in adapters and blocks), and the collector of
 * JavaScript does not know that: release what you take in a loop.
 */
export const release = (handle) => handle[Symbol.dispose ?? Symbol.for('dispose')]();
