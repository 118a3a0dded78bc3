//! What a run is to do: the event and the inputs, decided.
