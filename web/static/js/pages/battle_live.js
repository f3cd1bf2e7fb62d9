// @ts-check
/** A creator's battle begins, on whatever page they are: who does not come within a minute is out of it. */
import { announce, toast } from "../ui.js";

/** @param {import("../events_client.js").EventsClient} events */
export function listenForBattles(events) {
  events.on("BATTLE_BEGUN", ({ battleId, title }) => {
    const href = `/battles/${encodeURIComponent(battleId)}`;
    if (location.pathname === href) return;
    announce(`Your battle ${title} begins. Take your seat within a minute.`, "alert");
    toast(`Your battle “${title}” begins. Take your seat within a minute.`, { kind: "warn", action: { label: "Go to the battle", href } });
  });
}
