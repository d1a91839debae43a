// The endpoint through the official openai client of JavaScript; usage is printed for the test to compare with the ledger.
import assert from "node:assert/strict";
import OpenAI from "openai";

const [baseURL, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL, maxRetries: 0, timeout: 300_000 });
const used = [];
const note = (answer) => {
  used.push([answer.id, answer.usage.prompt_tokens, answer.usage.completion_tokens]);
  return answer;
};
const messages = [{ role: "user", content: "Name a colour." }];
const ask = async (more) => note(await client.chat.completions.create({ model, messages, max_tokens: 12, temperature: 0, ...more }));

const models = [];
for await (const found of client.models.list()) models.push(found.id);
assert.deepEqual(models, [model]);
assert.equal((await client.models.retrieve(model)).id, model);

const plain = await ask({});
assert.ok(plain.choices[0].message.content.length > 0);
assert.ok(["stop", "length"].includes(plain.choices[0].finish_reason));

// A stream gives the same words in pieces, and its usage in the last chunk.
const stream = await client.chat.completions.create({
  model, messages, max_tokens: 12, temperature: 0, stream: true, stream_options: { include_usage: true },
});
let text = "", last;
for await (const chunk of stream) {
  text += chunk.choices[0]?.delta?.content ?? "";
  last = chunk;
}
assert.equal(text, plain.choices[0].message.content);
note(last);

// Helpers of the client: a stream put together again, a parsed format, a tool that is run.
const gathered = await client.chat.completions.stream({ model, messages, max_tokens: 12, temperature: 0, stream_options: { include_usage: true } }).finalChatCompletion();
assert.equal(gathered.choices[0].message.content, text);
note(gathered);
const schema = { type: "object", properties: { age: { type: "integer", minimum: 0, maximum: 99 } }, required: ["age"], additionalProperties: false };
const kept = await ask({ max_tokens: 64, response_format: { type: "json_schema", json_schema: { name: "person", strict: true, schema } } });
assert.ok(Number.isInteger(JSON.parse(kept.choices[0].message.content).age));
const city = { type: "object", properties: { city: { type: "string", enum: ["Kiel", "Ulm"] } }, required: ["city"], additionalProperties: false };
const tools = [{ type: "function", function: { name: "weather", description: "Weather of a city", parameters: city } }];
const called = await ask({ max_tokens: 64, tools, tool_choice: "required" });
const call = called.choices[0].message.tool_calls[0];
assert.equal(called.choices[0].finish_reason, "tool_calls");
assert.ok(["Kiel", "Ulm"].includes(JSON.parse(call.function.arguments).city));

// Errors are the client's own kinds, and say what and where.
await assert.rejects(client.chat.completions.create({ model: "nobody", messages }), (error) => error instanceof OpenAI.NotFoundError && error.code === "model_not_found");
await assert.rejects(client.chat.completions.create({ model, messages, temperature: 9 }), (error) => error instanceof OpenAI.BadRequestError && error.param === "temperature");
await assert.rejects(new OpenAI({ baseURL, apiKey: "wrong", maxRetries: 0 }).models.list(), OpenAI.AuthenticationError);

// A stream that is left in the middle ends there, and the next one is answered.
const left = await client.chat.completions.create({ model, messages: [{ role: "user", content: "Tell a very long story." }], max_tokens: 400, stream: true });
for await (const chunk of left) if (chunk.choices[0]?.delta?.content) break;
const answered = await client.responses.create({ model, input: "Name a colour.", max_output_tokens: 8 });
used.push([answered.id, answered.usage.input_tokens, answered.usage.output_tokens]);

console.log(JSON.stringify({ used }));
